"""Rules that see whole tensors are called between two kernels; all else is done by these."""

import gc
import weakref
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import funcopt as fo
from funcopt.combinators import walk
from funcopt.engine import _whole
from funcopt.errors import ArgumentError, StructureError

from .common import Run, gap, gradients, parameters
from .test_every_chain import CASES, has_to_run_as_it_is

MATRICES = {"a": (6, 4), "b": (4, 6), "c": (5, 5), "d": (0, 3), "e": (7, 2)}
ALL = {**MATRICES, "f": (3,), "g": ()}


class Kept(NamedTuple):
    largest: Tensor  # (), of the gradients so far
    calls: Tensor  # (), a whole number
    last: Tensor  # like p: the gradient before


class kept(fo.TensorRule):
    """Slots of other shapes, whole numbers, and one that changes in every other step only."""

    weight: fo.Scalar = 0.5

    def init_tensor(self, p):
        return Kept(torch.zeros(()).to(p), torch.zeros((), dtype=torch.int64), torch.zeros_like(p))

    def prepare(self, step, memory):
        return {"odd": step % 2 == 1}

    def update_tensor(self, g, slots, p, s):
        largest = torch.maximum(slots.largest, torch.linalg.vector_norm(g))
        last = g.clone() if s.odd else slots.last
        u = g / (1 + largest) + s.weight * slots.last + slots.calls
        return u, Kept(largest, slots.calls + 1, last)


class measured(fo.TensorRule):
    """A rule that sees whole tensors, and measures each of them before."""

    measure_per = "tensor"

    def measure_tensor(self, g, slots, p, s):
        return (g * g).sum()

    def conclude(self, s, memory, total):
        return {"size": total}, memory

    def update_tensor(self, g, slots, p, s):
        return g.flip(0) / (1 + s.size), slots


class Pair(NamedTuple):
    one: Tensor  # (2,)
    other: Tensor  # (2,)


class exchanged(fo.TensorRule):
    """Its slots are in turns each other's: what is written first is read afterwards."""

    def init_tensor(self, p):
        return Pair(torch.ones(2).to(p), torch.zeros(2).to(p))

    def update_tensor(self, g, slots, p, s):
        return g * slots.one[0], Pair(slots.other, slots.one)


class turned(fo.TensorRule):
    """Returns a view of the parameter, whose entries are in another order."""

    needs_params = True

    def update_tensor(self, g, slots, p, s):
        return p.mT, slots


class Mean(NamedTuple):
    mean: Tensor  # like p


class finished(fo.TensorRule):
    """Two parts: only the second sees a tensor whole."""

    weight: fo.Scalar = 0.5
    size: fo.Scalar = 1e-3
    needs_params = True

    def init_tensor(self, p):
        return Mean(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(slots.mean, g + 0.1 * p, s.weight)
        return mean * 2, Mean(mean)

    def finish_tensor(self, u, p, s):
        return u.flip(0) / (1 + torch.linalg.vector_norm(u)) + s.size * p.sum()


class finished_by_size(measured):
    """Two parts behind a measure, with the parameter left alone."""

    weight: fo.Scalar = 0.5

    def init_tensor(self, p):
        return Mean(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(slots.mean, g, s.weight) / (1 + s.size)
        return mean, Mean(mean)

    def finish_tensor(self, u, p, s):
        return u.flip(0) / (1 + s.size)


def by_matrix(name, p):
    return "matrix" if p.dim() > 1 else "rest"


LR = fo.linear_schedule(0.1, 0.02, 20)
CHAINS = {
    "muon": (fo.chain(fo.scale_by_muon(ns_dtype=None), fo.sgd(LR)), MATRICES),
    "muon and adamw": (
        fo.partition(
            {
                "matrix": fo.chain(fo.scale_by_muon(ns_dtype=None), fo.sgd(0.1)),
                "rest": fo.adamw(LR),
            },
            by_matrix,
        ),
        ALL,
    ),
    "clipped": (
        fo.chain(fo.clip_by_global_norm(0.5), fo.centralize(), fo.scale_by_adam(), fo.sgd(LR)),
        ALL,
    ),
    "two": (fo.chain(fo.centralize(), fo.trace(0.9), fo.adaptive_grad_clip(), fo.sgd(LR)), ALL),
    "adafactor": (fo.adafactor(weight_decay=0.1), ALL),
    "shampoo": (fo.chain(fo.scale_by_shampoo(), fo.add_decayed_weights(0.1), fo.sgd(LR)), ALL),
    "soap": (fo.chain(fo.scale_by_soap(precondition_frequency=3), fo.sgd(LR)), ALL),
    "slots": (fo.chain(kept(), fo.sgd(0.1)), ALL),
    "measured": (fo.chain(fo.trace(0.5), measured(), fo.sgd(0.1)), MATRICES),
    "finished": (fo.chain(fo.trace(0.5), finished(), finished(0.1), fo.sgd(LR)), ALL),
    "finished by size": (
        fo.chain(finished_by_size(), fo.add_decayed_weights(0.1), fo.sgd(0.1)),
        ALL,
    ),
    "exchanged": (fo.chain(exchanged(), fo.sgd(0.1)), ALL),
    "an average behind": (fo.chain(kept(), fo.sgd(0.1), fo.ema_of_params(0.9)), ALL),
}


@pytest.mark.parametrize("how", ["fused", "foreach"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_step_is_traced_once(name, how, traces):
    tx, shapes = CHAINS[name]
    runs = [Run(tx, one, parameters(shapes=shapes)) for one in ("eager", how)]
    for _ in range(9):
        for run in runs:
            run.step()
    assert runs[1].engine.name == how
    assert len(traces) == 1
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


@pytest.mark.parametrize("name", CHAINS)
def test_out_of_place_too(name, traces):
    tx, shapes = CHAINS[name]
    runs = {}
    for engine in ("eager", "fused"):
        params = parameters(shapes=shapes)
        state = tx.init(params)
        with fo.pure_engine(engine):
            for t in range(7):
                given = fo.tree.leaves((params, state))
                before = [x.clone() for x in given]
                updates, state = tx.update(gradients(params, t), state, params)
                assert all(map(torch.equal, given, before))
                params = fo.apply_updates(params, updates)
        runs[engine] = fo.tree.leaves((params, state))
    assert len(traces) == 1 + 1  # of `apply_updates`
    assert gap(*runs.values()) <= 1e-12


def test_each_way_of_what_decides_is_traced_once(traces):
    """Where no trace fits, what a replay has passed on so far is dropped."""
    tx = fo.lookahead(fo.accumulate(CHAINS["soap"][0], 2), sync_period=3)
    runs = [Run(tx, how, parameters(shapes=ALL)) for how in ("eager", "fused")]
    for _ in range(14):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    assert len(traces) == 4
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_in_other_dtypes_too(name, dtype):
    """What a rule gets is widened by a kernel, and what it returns is narrowed by one."""
    tx, shapes = CHAINS[name]
    runs = [Run(tx, how, parameters(dtype, shapes)) for how in ("eager", "fused")]
    for _ in range(2):  # rounding grows in further steps
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    for x, y in zip(*(run.tensors() for run in runs), strict=True):
        tol = {} if x.dtype is not torch.bfloat16 else {"rtol": 2**-7, "atol": 2**-9}
        torch.testing.assert_close(x, y, **tol)


@pytest.mark.parametrize("change", ["transposed", "strided", "gradients"])
def test_any_memory_order(change):
    tx = fo.chain(fo.scale_by_factored_rms(), kept(), fo.sgd(0.1))

    def made():
        params = parameters(shapes=MATRICES)
        if change == "transposed":
            return {k: p.t().contiguous().t() for k, p in params.items()}
        if change == "strided":
            return {k: torch.stack([p, p], -1)[..., 0] for k, p in params.items()}
        return params

    runs = [Run(tx, how, made()) for how in ("eager", "fused")]
    for t in range(5):
        for run in runs:
            grads = gradients(run.params, t)
            if change == "gradients":
                grads = {k: g.t().contiguous().t() for k, g in grads.items()}
            run.step(grads)
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def test_a_view_of_the_parameter_may_be_returned():
    shapes = {"a": (300, 300), "b": (3, 3)}
    tx = fo.chain(turned(), fo.sgd(0.1))
    runs = [Run(tx, how, parameters(shapes=shapes)) for how in ("eager", "fused")]
    for _ in range(3):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def test_groups_have_their_own_scalars():
    found = []
    for engine in ("eager", "fused"):
        params = [torch.nn.Parameter(p) for p in parameters(shapes=MATRICES).values()]
        groups = [{"params": params[:2], "lr": 0.3, "maximize": True}, {"params": params[2:]}]
        tx = fo.chain(fo.scale_by_muon(ns_dtype=None), fo.scale_by_learning_rate(0.1))
        opt = fo.Optimizer(groups, tx, engine=engine)
        for t in range(4):
            for i, p in enumerate(params):
                p.grad = (0.3 * p.detach() + t + i).sin()
            opt.step()
        assert opt.engine == engine
        found.append([p.detach() for p in params])
    assert gap(*found) <= 1e-12


def test_an_error_changes_nothing():
    class fails(fo.TensorRule):
        at: fo.Scalar = 3.0

        def prepare(self, step, memory):
            return {"now": step == self.at}

        def update_tensor(self, g, slots, p, s):
            if s.now and g.shape[0] == 7:
                raise ArithmeticError("no")
            return g.clone(), slots

    run = Run(fo.chain(fo.trace(0.9), fails(), fo.sgd(0.1)), "fused", parameters(shapes=MATRICES))
    run.step()
    run.step()
    before = [x.clone() for x in run.tensors()]
    with pytest.raises(ArithmeticError, match="no"):
        run.step()
    assert all(map(torch.equal, run.tensors(), before))
    run.t += 1
    run.step()
    assert run.engine.name == "fused"
    assert not any(
        torch.equal(x, y) for x, y in zip(run.tensors(), before, strict=True) if x.numel()
    )


def test_nothing_but_the_update_is_passed_on_to_what_finishes_it(traces):
    """The slots stay in the passes before and after: they are not in fresh memory in between."""
    passed = []

    def counted(block, role, leaf, x, known=_whole.Block.set_scratch):
        passed.append(tuple(x.shape))
        known(block, role, leaf, x)

    run = Run(CHAINS["muon"][0], "fused", parameters(shapes=MATRICES))
    for _ in range(2):
        run.step()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_whole.Block, "set_scratch", counted)
        run.step()
    assert sorted(passed) == sorted(2 * list(MATRICES.values()))  # what it gets, and returns
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("returned", "got"),
    [(lambda u: (u, ()), "tuple"), (lambda u: u.sum(), "shape ()"), (lambda u: None, "NoneType")],
)
def test_what_is_returned_must_be_the_update(returned, got):
    class finishes_by(fo.TensorRule):
        def update_tensor(self, g, slots, p, s):
            return g * 1.0, slots

        def finish_tensor(self, u, p, s):
            return returned(u)

    for engine in ("eager", "fused"):
        run = Run(finishes_by(), engine, parameters(shapes={"a": (3, 2)}))
        with pytest.raises(StructureError) as error:
            run.step()
        assert str(error.value) == (
            "`finishes_by.finish_tensor` must return the update, a tensor of shape (3, 2), got "
            f"{got}. It has no slots."
        )


def test_it_says_so_if_it_is_told_that_all_is_by_entries():
    with pytest.raises(ArgumentError, match="`both` is `elementwise`, and has a `finish_tensor`"):

        class both(finished):
            elementwise = True


def test_nothing_in_between_outlives_the_step():
    alive = []

    class watches(fo.TensorRule):
        def update_tensor(self, g, slots, p, s):
            u = g.clone()
            alive.extend(map(weakref.ref, (g, u)))
            return u, slots

    chain = fo.chain(fo.trace(0.9), watches(), fo.sgd(0.1))
    run = Run(chain, "fused", parameters(shapes=MATRICES))
    for _ in range(3):
        run.step()
        gc.collect()
        assert len(alive) == 2 * len(MATRICES)
        assert all(ref() is None for ref in alive)
        alive.clear()


def test_slots_that_a_later_stage_would_compute_with_are_left_to_torch():
    """On a flag that cannot be looked at, `torch.where` chooses among slots of any shape."""

    class chooses(fo.TensorRule):
        def init_tensor(self, p):
            return Kept(torch.zeros(()).to(p), torch.zeros((), dtype=torch.int64), p.clone())

        elementwise = True

        def update_tensor(self, g, slots, p, s):
            return g * slots.largest, slots._replace(largest=slots.largest + 1)

    tx = fo.chain(fo.centralize(), chooses(), fo.sgd(0.1))
    runs = [Run(tx, how, parameters(shapes=ALL)) for how in ("eager", "fused")]
    for _ in range(3):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "eager"
    assert gap(*(run.tensors() for run in runs)) == 0


# Tensors of one shape together, as on a device.

MANY = {**{f"a{i}": (4, 4) for i in range(4)}, **{f"b{i}": (5, 5) for i in range(3)}, "c": (3,)}
OF_MATRICES = [
    fo.scale_by_muon(ns_dtype=None),
    fo.orthogonalize("cans", ns_dtype=None, normalization="aol", block_sizes=1),
    fo.scale_by_normuon(per="longer_side"),
]
BATCHED = [
    *OF_MATRICES,
    fo.chain(fo.scale_by_soap(precondition_frequency=2), fo.scale(-0.1)),
    fo.chain(fo.scale_by_soap(eps=1e-3, correction="kl"), fo.scale(-0.1)),
    fo.chain(fo.scale_by_shampoo(precondition_frequency=2, graft=True), fo.scale(-0.1)),
    fo.muon(0.1, ns_dtype=None),
]


def only_matrices(tx):
    return {k: shape for k, shape in MANY.items() if len(shape) == 2} if tx in OF_MATRICES else MANY


@pytest.fixture
def stacked(monkeypatch):
    """How many tensors are updated together, as on a device."""
    calls, known = [], _whole.updated_together

    def counted(rule, gs, *others):
        calls.append(len(gs))
        return known(rule, gs, *others)

    monkeypatch.setattr(_whole, "pays", lambda device: True)
    monkeypatch.setattr(_whole, "updated_together", counted)
    return calls


def three_steps(tx, shapes, extra=None):
    """By kernels and eagerly, from gradients of full rank, or eigenvectors would be any."""
    params = parameters(shapes=shapes)
    runs = [
        Run(tx, how, {k: p.clone() for k, p in params.items()}, extra) for how in ("eager", "fused")
    ]
    for t in range(3):
        generator = torch.Generator().manual_seed(t)
        grads = {k: torch.randn(p.shape, generator=generator).to(p) for k, p in params.items()}
        for run in runs:
            run.step(grads)
    assert runs[1].engine.name == "fused"
    # Eigenvectors have no sign of their own: slots of SOAP may differ where updates do not.
    assert gap(*(list(run.params.values()) for run in runs)) <= 1e-9


@pytest.mark.parametrize("tx", BATCHED, ids=str)
def test_those_of_one_shape_are_updated_together(tx, stacked):
    three_steps(tx, only_matrices(tx))
    assert sorted(stacked) == [3, 3, 3, 4, 4, 4]


def wholes(tx):
    return [x for _, x in walk(tx) if isinstance(x, fo.TensorRule) and not x.elementwise]


WHOLE = [case for case in CASES if wholes(case.tx) and not has_to_run_as_it_is(case.tx)]


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_so_are_those_of_every_rule_of_the_library(case, stacked):
    """Each rule says that it may be: no engine knows it by name."""
    assert all(rule.batched for rule in wholes(case.tx))
    three_steps(case.tx, only_matrices(case.tx), case.extra)
    assert set(stacked) == {3, 4}


def test_groups_are_not_mixed(stacked):
    """Those with other scalars are other batches."""
    params = {k: torch.nn.Parameter(p) for k, p in parameters(shapes=MANY).items()}
    groups = [{"params": [params[k] for k in params if k[0] != "a"]}]
    groups += [{"params": [params["a0"], params["a1"]], "lr": 0.3}]
    groups += [{"params": [params["a2"], params["a3"]], "lr": 0.7}]
    opt = fo.Optimizer(groups, fo.chain(fo.centralize(), fo.sgd(0.1)), engine="fused")
    before = {k: p.detach().clone() for k, p in params.items()}
    for p in params.values():
        p.grad = torch.ones_like(p) + torch.arange(p.numel()).view_as(p)
    opt.step()
    assert sorted(stacked) == [2, 2, 3]
    lrs = {"a0": 0.3, "a1": 0.3, "a2": 0.7, "a3": 0.7}
    for k, p in params.items():
        g = p.grad - (p.grad.mean(1, keepdim=True) if p.dim() > 1 else 0.0)
        torch.testing.assert_close(p.detach(), before[k] - lrs.get(k, 0.1) * g)


def test_neither_are_those_with_scalars_of_their_own(stacked):
    class stacks(measured):
        batched = True

    three_steps(fo.chain(stacks(), fo.sgd(0.1)), {f"a{i}": (4, 4) for i in range(3)})
    assert not stacked


def test_large_tensors_are_updated_in_smaller_batches(stacked, monkeypatch):
    """For a batch, memory is needed."""
    monkeypatch.setattr(_whole, "MOST_ENTRIES", 2 * 16 + 5)
    three_steps(fo.scale_by_factored_rms(), {f"a{i}": (4, 4) for i in range(5)})
    assert stacked == [2, 2] * 3
    monkeypatch.setattr(_whole, "MOST_ENTRIES", 31)
    stacked.clear()
    three_steps(fo.scale_by_factored_rms(), {f"a{i}": (4, 4) for i in range(5)})
    assert not stacked


@pytest.mark.parametrize("tx", BATCHED[:-1], ids=str)
def test_on_a_device_more_of_a_shape_are_no_more_operations(tx):
    found = []
    for many in (3, 12):
        params = {f"{i:02}": torch.empty(6, 4, device="meta") for i in range(many)}
        grads = {k: torch.empty_like(p) for k, p in params.items()}
        run = Run(tx, "auto", params)
        for _ in range(2):
            run.step(grads)
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, acc_events=True) as profile:
            run.step(grads)
        found.append(
            {e.key: e.count for e in profile.key_averages() if e.key in PRODUCTS and e.count}
        )
    assert found[0] == found[1]


PRODUCTS = ("aten::bmm", "aten::mm", "aten::baddbmm", "aten::linalg_qr", "aten::_linalg_eigh")
