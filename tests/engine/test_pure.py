"""The pure form by kernels: the same numbers, in fresh memory, and nothing that went in changes."""

import contextlib
import gc
import pickle
import threading
import weakref

import pytest
import torch
from torch.autograd import forward_ad

import funcopt as fo
from funcopt.engine import _options, _pure
from funcopt.errors import (
    ExtraArgumentError,
    FuncoptError,
    HyperparameterError,
    LeafError,
    SparseGradientError,
    StructureError,
)

from ..cases import CASES, PARAMS
from .common import by_kind, gap, watched

CASES = [case for case in CASES if not case.tx.takes_examples() and not case.tx.extra_names()]
ONE_BY_ONE = {"add_noise", "lbfgs", "low_rank", "reset=True", "kron"}
"""What no kernels make: numbers are drawn, whole trees are seen, or slots are made anew."""

ONE_NUMBER = {"novograd", "ldog"}
"""A slot is one number for a tensor, which kernels make where the tensor is one number too."""

TREES = [name for name, params in PARAMS.items() if fo.tree.leaves(params)]


def double(params):
    return fo.tree.map(lambda p: p.double() if p.is_floating_point() else p, params)


def gradients(params, t):
    return fo.tree.map(lambda p: 0.3 * p + (p + t).sin(), params)


def some_params():
    return {"w": torch.ones(3, 2), "b": torch.ones(2)}


@pytest.fixture
def traced(monkeypatch):
    """The backends that are made, of which each traces its first update; none is known before."""
    found = []

    class Backend(_pure.TracedBackend):
        steps = 0

        def __init__(self, *given):
            super().__init__(*given)
            found.append(self)

        def step(self, inputs):
            self.steps += 1
            return super().step(inputs)

    monkeypatch.setattr(_pure, "TracedBackend", Backend)
    return found


def ulps(x, y):
    """How many numbers of their dtype two tensors are apart, at most."""
    places = []
    for z in (x, y):
        bits = z.view({2: torch.int16, 4: torch.int32}[z.itemsize])
        negative = torch.iinfo(bits.dtype).min - bits.long()
        places.append(torch.where(bits < 0, negative, bits.long()))
    return (places[0] - places[1]).abs().max().item()


def updated(tx, params, engine, steps=4, grads=gradients):
    state = tx.init(params)
    with fo.pure_engine(engine):
        for t in range(steps):
            updates, state = tx.update(grads(params, t), state, params)
            params = fo.apply_updates(params, updates)
    return params, state, updates


# The numbers.


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_numbers_are_those_of_the_operations(case, name):
    params = double(PARAMS[name])
    try:
        case.tx.init(params)
    except FuncoptError:
        return  # labels that do not fit these parameters
    one = updated(case.tx, params, "eager")
    with watched() as by_kernels:
        other = updated(case.tx, params, "fused")
    kinds = {kind for kind in ONE_BY_ONE if kind in str(case)}
    if name != "a bare 0-d tensor":
        kinds |= {kind for kind in ONE_NUMBER if kind in str(case)}
    assert set(by_kernels) <= {not kinds}
    assert fo.tree.names(one) == fo.tree.names(other)
    for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
    assert gap(fo.tree.leaves(one), fo.tree.leaves(other)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("tx", [fo.sgd(0.1, momentum=0.9), fo.adamw(0.1), fo.lion(0.1)], ids=str)
def test_every_dtype_is_rounded_once(tx, dtype):
    torch.manual_seed(0)
    params = {
        "a": torch.randn(5, 3).to(dtype),
        "b": torch.randn(4),
        "c": torch.randn((), dtype=dtype),
    }
    one = updated(tx, params, "eager")
    with watched() as by_kernels:
        other = updated(tx, params, "fused")
    assert all(by_kernels)
    for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        if x.dtype == torch.bfloat16:
            assert ulps(x, y) <= 1 < ulps(x, x + x.abs() * 2**-6)
        else:
            torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("turned", ["params", "grads", "slots"])
def test_a_tensor_may_lie_in_memory_in_any_way(turned):
    tx, params = fo.adamw(0.1), {"w": torch.arange(12.0, dtype=torch.float64).reshape(4, 3)}
    grads = {"w": params["w"].sin()}
    with fo.pure_engine("eager"):
        _, state = tx.update(grads, tx.init(params), params)
        expected = tx.update(grads, state, params)
    if turned == "params":
        params = {"w": torch.empty(3, 4, dtype=torch.float64).t().copy_(params["w"])}
    elif turned == "grads":
        grads = {"w": torch.zeros(4, 6, dtype=torch.float64)[:, ::2].copy_(grads["w"])}
    else:
        strided = fo.tree.map(lambda x: x.new_empty(3, 4).t().copy_(x), state.slots)
        state = state._replace(slots=strided)
    with watched() as by_kernels:
        found = tx.update(grads, state, params)
    assert by_kernels == [True]
    assert gap(fo.tree.leaves(found), fo.tree.leaves(expected)) <= 1e-14


def test_whole_numbers_are_copied():
    tx, params = by_kind(), {"w": torch.arange(6.0).reshape(3, 2).t()}
    one = updated(tx, params, "eager")
    with watched() as by_kernels:
        other = updated(tx, params, "fused")
        before = other[1].slots["w"].kind
        _, state = tx.update(params, other[1], params)
    assert all(by_kernels)
    assert gap(fo.tree.leaves(one), fo.tree.leaves(other)) <= 1e-6
    after = state.slots["w"].kind
    assert torch.equal(before, after)
    assert before.data_ptr() != after.data_ptr()


def test_missing_gradients_stay_missing():
    params, tx = some_params(), fo.adamw(0.1)
    state = tx.init(params)
    with watched() as by_kernels:
        updates, after = tx.update({"w": torch.ones(3, 2), "b": None}, state, params)
    assert by_kernels == [True]
    assert updates["b"] is None
    each = (fo.tree.leaves(x.slots["b"]) for x in (after, state))
    assert all(x is y for x, y in zip(*each, strict=True))
    assert after.step == 1


def test_a_number_of_another_value_is_no_other_program(traced):
    params = some_params()
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.1, 0.0, 5)))
    one, other = (updated(tx, double(params), engine, steps=6) for engine in ("eager", "fused"))
    assert gap(fo.tree.leaves(one), fo.tree.leaves(other)) <= 1e-14
    (backend,) = traced
    assert len(backend._compiled) == 1


def test_what_an_update_measured_is_the_same():
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.masked(fo.adamw(0.1), "w"))
    found = []
    for engine in ("eager", "fused"):
        params = double(some_params())
        state = tx.init(params)
        with watched(engine) as by_kernels:
            for _ in range(2):
                _, state, metrics = fo.update_with_metrics(tx, params, state, params)
        found.append({k: float(x) for k, x in metrics.items()})
        assert by_kernels == [engine == "fused"] * 2
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0]["grad_norm"] == pytest.approx(8**0.5)


# What goes in stays.


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_goes_in_is_untouched_and_what_comes_out_is_its_own(case):
    params = double(PARAMS["a nested tree"])
    try:
        state = case.tx.init(params)
    except FuncoptError:
        return
    grads = gradients(params, 1)
    given = [x for x in fo.tree.leaves((params, grads, state)) if x is not None]
    before, versions = [x.clone() for x in given], [x._version for x in given]
    with watched() as by_kernels:
        updates, after = case.tx.update(grads, state, params)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))
    assert [x._version for x in given] == versions
    made = storages((updates, getattr(after, "slots", ())))
    assert not set(storages(params)).intersection(made)
    if by_kernels == [True]:
        assert not set(storages((grads, state.slots))).intersection(made)
        assert len(set(made)) == len(made)


def storages(trees):
    return [x.untyped_storage().data_ptr() for x in fo.tree.leaves(trees)]


def test_nothing_of_an_update_is_kept_alive():
    params, tx = some_params(), fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1))
    gc.disable()
    try:
        with watched() as by_kernels:
            for _ in range(3):
                state = tx.init(params)
                grads = gradients(params, 0)
                updates, after = tx.update(grads, state, params)
        assert all(by_kernels)
        params = {k: p.clone() for k, p in params.items()}
        seen = [weakref.ref(x) for x in fo.tree.leaves((params, grads, state, updates, after))]
        with fo.pure_engine("fused"):
            tx.update(grads, state, params)
        del params, grads, state, updates, after
        assert [x() for x in seen if x() is not None] == []
        gone, key = weakref.ref(tx), id(tx)
        del tx
        assert gone() is None
        assert key not in _pure._cache.alive
    finally:
        gc.enable()


def test_a_record_is_what_it_was():
    tx = fo.adamw(0.1)
    before = repr(tx), pickle.dumps(tx), hash(tx)
    with watched() as by_kernels:
        updated(tx, some_params(), "fused")
    assert all(by_kernels)
    assert (repr(tx), pickle.dumps(tx), hash(tx)) == before


# Where operations are followed, they are made one by one.


def test_derivatives_go_through_updates():
    tx, params = fo.adamw(0.1, eps=1e-3), double(some_params())
    state = tx.init(params)

    def after(params, engine="fused"):
        with fo.pure_engine(engine):
            updates, _ = tx.update(gradients(params, 1), state, params)
        return sum(x.square().sum() for x in fo.tree.leaves(fo.apply_updates(params, updates)))

    expected = torch.func.grad(lambda p: after(p, "eager"))(params)
    with watched() as by_kernels:
        after(params)
        by_func = torch.func.grad(after)(params)
        leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
        by_autograd = torch.autograd.grad(after(leaves), list(leaves.values()))
        with torch.no_grad():
            after(leaves)
    assert by_kernels == [True, False, False, True]
    for k, x in zip(params, by_autograd, strict=True):
        assert torch.equal(by_func[k], expected[k])
        assert torch.equal(x, expected[k])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("given", ["params", "grads", "slots", "memory"])
def test_what_was_found_for_others_does_not_cost_a_derivative(given, missing):
    tx, params = fo.nadam(0.1, eps=1e-3, weight_decay=0.1), double(some_params())
    grads, state = gradients(params, 1), tx.init(params)
    if missing:
        grads["b"] = None

    def followed(tree):
        return fo.tree.map(lambda x: x.clone().requires_grad_(x.is_floating_point()), tree)

    with watched() as by_kernels:
        tx.update(grads, state, params)
        if given == "params":
            updates, _ = tx.update(grads, state, followed(params))
        elif given == "grads":
            updates, _ = tx.update(followed(grads), state, params)
        else:
            kept = state._replace(**{given: followed(getattr(state, given))})
            updates, _ = tx.update(grads, kept, params)
    assert by_kernels == [True, False]
    assert updates["w"].requires_grad


@pytest.mark.parametrize("how", ["a number", "a schedule", "a function"])
def test_derivatives_by_hyperparameters_are_taken(how, traced):
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    made = {
        "a number": lr,
        "a schedule": fo.linear_schedule(lr, 0.0, 5),
        "a function": lambda t: lr * 0.5**t,
    }
    tx, params = fo.adamw(made[how]), double(some_params())
    with watched() as by_kernels:
        for grad in (True, False, True, True, False):
            with torch.set_grad_enabled(grad):
                updates, _ = tx.update(params, tx.init(params), params)
            if grad:
                (slope,) = torch.autograd.grad(updates["w"].sum(), lr)
                assert slope != 0.0
    assert by_kernels == [False, True, False, False, True]
    assert [backend.steps for backend in traced] == [3]  # to learn of derivatives, one is enough


SLOPE = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)


class concluded(fo.TensorRule):
    elementwise = True

    def conclude(self, s, memory, total):
        return {"factor": SLOPE * 1.0}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


class of_a_norm(concluded):
    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        return {"factor": SLOPE * total}, memory


class in_a_tuple(fo.TensorRule):
    elementwise = True

    def prepare(self, step, memory):
        return {"factors": (1.0, (SLOPE * 1.0,))}

    def update_tensor(self, g, slots, p, s):
        return g * s.factors[1][0], slots


class closed_over(fo.TensorRule):
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return g * SLOPE, slots


@pytest.mark.parametrize("rule", [concluded, of_a_norm, in_a_tuple, closed_over])
def test_derivatives_by_scalars_of_a_step_are_taken(rule):
    tx, params = fo.chain(rule(), fo.scale_by_adam()), double(some_params())
    with watched() as by_kernels:
        for grad in (False, True, True, False):
            with torch.set_grad_enabled(grad):
                updates, _ = tx.update(params, tx.init(params), params)
            assert updates["w"].requires_grad == grad
    assert by_kernels[:3] == [True, False, False]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which torch calls
def test_forward_derivatives_are_taken():
    tx, params = fo.sgd(0.1, momentum=0.9), {"w": torch.ones(3)}
    state = tx.init(params)
    with watched() as by_kernels, forward_ad.dual_level():
        grads = {"w": forward_ad.make_dual(torch.ones(3), torch.full((3,), 2.0))}
        updates, _ = tx.update(grads, state, params)
        assert torch.allclose(forward_ad.unpack_dual(updates["w"]).tangent, torch.tensor(-0.2))
    assert by_kernels == [False]  # machine code knows no tangents


def test_updates_are_mapped_and_compiled():
    tx, params = fo.adamw(0.1), some_params()
    state = tx.init(params)
    many = fo.tree.map(lambda p: torch.stack([p, 2 * p]), params)

    def update(grads):
        return tx.update(grads, state, params)[0]

    with watched() as by_kernels:
        update(params)
        mapped = torch.vmap(update)(many)
    assert by_kernels == [True, False]
    with fo.pure_engine("fused"):
        compiled = torch.compile(update, backend="eager", fullgraph=True)(params)
    assert torch.equal(mapped["w"][0], update(params)["w"])
    assert torch.equal(compiled["w"], update(params)["w"])


def test_subclasses_and_modes_see_every_operation():
    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    class Other(torch.Tensor):
        pass

    tx, params = fo.adamw(0.1), some_params()
    with watched() as by_kernels:
        tx.update(params, tx.init(params), params)
        with Seen() as seen:
            tx.update(params, tx.init(params), params)
        assert seen.count > 10
        params = fo.tree.map(lambda p: p.as_subclass(Other), params)
        updates, _ = tx.update(params, tx.init(params), params)
    assert type(updates["w"]) is Other
    assert by_kernels == [True, False, False]


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_a_trace_records_every_operation():
    tx, params = fo.adamw(0.1), double(some_params())
    state = tx.init(params)

    def update(w, b):
        updates, _ = tx.update({"w": w, "b": b}, state, params)
        return updates["w"], updates["b"]

    with watched() as by_kernels:
        update(*gradients(params, 0).values())
        traced = torch.jit.trace(update, (*gradients(params, 1).values(),), check_trace=False)
    assert by_kernels == [True, False]
    given = tuple(gradients(params, 2).values())
    assert all(map(torch.equal, traced(*given), update(*given)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_default_device_changes_nothing(device):
    tx, params = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)), double(some_params())
    expected = updated(tx, params, "eager")
    torch.set_default_device(device)
    try:
        with watched() as by_kernels, torch.device(device):
            found = updated(tx, params, "fused")
    finally:
        torch.set_default_device(None)
    assert by_kernels == [True] * 4
    assert gap(fo.tree.leaves(found), fo.tree.leaves(expected)) <= 1e-14


# The choice.


def test_trees_of_every_size_are_updated_by_kernels():
    for size in (1, 10, 2**16):
        tx, params = fo.adamw(0.1), {"w": torch.ones(size)}
        with watched("auto") as by_kernels:
            tx.update(params, tx.init(params), params)
            with fo.pure_engine("eager"):
                tx.update(params, tx.init(params), params)
            tx.update(params, tx.init(params), params)
        assert by_kernels == [True, False, True]


def test_eager_is_to_the_bit_without_kernels():
    tx, params = fo.adamw(0.1, weight_decay=0.0), {"w": torch.randn(2**16)}
    p, state = torch.nn.Parameter(params["w"].clone()), tx.init(params)
    theirs = fo.Optimizer([p], tx, engine="eager")
    with watched("eager") as by_kernels:
        for _ in range(3):
            p.grad = params["w"].cos()
            updates, state = tx.update({"w": p.grad}, state, params)
            params = fo.apply_updates(params, updates)
            theirs.step()
    assert by_kernels == [False] * 3
    assert torch.equal(params["w"], p)
    assert id(tx) not in _pure._cache.alive


def turns(trees, made, times=3, engine="auto"):
    """Updates of the trees in turns, by what is made for each; whether each is by kernels."""
    with watched(engine) as by_kernels:
        for _ in range(times):
            for params in trees:
                tx = made()
                tx.update(params, tx.init(params), params)
    return by_kernels


def test_trees_that_come_in_turns_are_all_known(traced):
    tx = fo.adamw(0.1)
    trees = [{"w": torch.ones(2**16 + k)} for k in range(_pure.MAX_KEPT)]
    assert all(turns(trees, lambda: tx))
    assert len(traced) == len(trees)
    assert all(turns([{"w": torch.ones(2**16 + 9)}], lambda: tx))
    turns(trees[2:], lambda: tx)
    assert len(traced) == len(trees) + 1  # the others were the latest
    turns(trees[:1], lambda: tx)
    assert len(traced) == len(trees) + 2
    assert len(_pure._cache.find(tx)[1]._known) == _pure.MAX_KEPT


@pytest.mark.parametrize("follows", [False, True])
def test_the_mode_of_autograd_is_no_other_tree(follows, traced):
    tx, params = fo.adamw(0.1), {"w": torch.ones(2**16, requires_grad=follows)}
    grads = {"w": torch.ones(2**16)}
    with watched("auto") as by_kernels:
        for grad in (False, True) * 3:
            with torch.set_grad_enabled(grad):
                tx.update(grads, tx.init({"w": params["w"].detach()}), params)
    assert by_kernels == [True, not follows] * 3
    assert len(traced) == 1


def test_transformations_that_are_made_anew_are_known(traced):
    params, rates = {"w": torch.ones(2**16)}, iter(range(1, 99))
    makers = [
        lambda: fo.chain(fo.clip_by_global_norm(0.7), fo.adamw(next(rates) / 7)),
        lambda: fo.lion(next(rates) / 7, state_dtype=torch.bfloat16),
        lambda: fo.adamw(fo.linear_schedule(next(rates) / 7, 0.0, 5), betas=(0.8, 0.9)),
    ]
    for _ in range(3):
        for made in makers:
            assert all(turns([params], made))
    assert len(traced) == len(makers)
    for rate in (0.1, 0.3):  # the numbers are its own
        tx = fo.lion(rate, weight_decay=0.0, state_dtype=torch.bfloat16)
        with fo.pure_engine("fused"):
            updates, _ = tx.update(params, tx.init(params), params)
        assert torch.equal(updates["w"], torch.full((2**16,), -rate))


def test_of_what_is_gone_only_the_latest_is_kept(traced):
    params = {"w": torch.ones(2**16)}
    makers = [fo.adamw, fo.lion, fo.adagrad, fo.rmsprop, fo.adamax]
    for made in (*makers, *makers[1:]):
        assert all(turns([params], made))
    assert len(traced) == len(makers)
    assert len(_pure._cache._latest) == _pure.MAX_KEPT < len(makers)


def test_an_engine_makes_its_own_kernels(traced):
    tx, params = fo.adamw(0.1), some_params()
    for engine in ("fused", "foreach", "fused", "foreach"):
        assert all(turns([params], lambda: tx, engine=engine))
    assert [backend.name for backend in traced] == ["fused", "foreach"]


@pytest.mark.parametrize("what", ["a tensor", "a function"])
def test_what_is_gone_keeps_nothing_alive(what, traced):
    """So it is traced for each update, all of which are made alike."""
    params = {"w": torch.ones(2**16)}

    def made():
        if what == "a tensor":
            return fo.adamw(torch.tensor(0.1))
        return fo.masked(fo.adamw(0.1), lambda name, p: True)

    assert all(turns([params], made))
    assert len(traced) == 3
    tx = made()
    assert all(turns([params], lambda: tx))
    assert len(traced) == 4
    latest = [x.tx for x in _pure._cache._latest]
    assert all(map(_pure._is_plain_value, latest))


def test_a_reason_is_said_once(caplog):
    tx, params = fo.add_noise(0.1, 0.5, 0), {"w": torch.ones(2**8, 2**8)}
    _pure._said.clear()
    with caplog.at_level("INFO", logger="funcopt"):
        assert turns([params, {"w": params["w"].T}], lambda: tx) == [False] * 6
    lines = [line for line in caplog.messages if "operation by operation" in line]
    assert len(lines) == 1
    assert lines[0].startswith("updates of add_noise are made operation by operation: ")


def around(tx):
    """`tx` as a stage that sees whole trees, of which the engine knows nothing."""
    return fo.from_functions(tx.init, tx.update)


@pytest.mark.parametrize("where", ["Optimizer", "donated"])
@pytest.mark.parametrize(("engine", "kernels"), [("eager", False), ("fused", True), ("auto", True)])
def test_updates_within_a_step_are_made_by_its_engine(where, engine, kernels):
    tx, params = around(fo.adamw(0.1)), some_params()
    with watched("fused") as by_kernels:
        if where == "Optimizer":
            opt = fo.Optimizer(params.values(), tx, engine=engine)
            for p in params.values():
                p.grad = p.sin()
            opt.step()
        else:
            step = fo.donated(tx, engine=engine)
            step(params, gradients(params, 0), step.init(params))
        assert by_kernels[-1] == kernels  # a trace, which fails, may be before it
        assert _options._of_updates.get() == "fused"


def test_eager_steps_with_whole_trees_are_pure_updates_to_the_bit():
    tx, params = around(fo.adamw(0.1)), {"w": torch.randn(2**16)}
    expected, _, _ = updated(tx, params, "eager")
    step, mine = fo.donated(tx, engine="eager"), {"w": params["w"].clone()}
    state = step.init(mine)
    for t in range(4):
        mine, state = step(mine, gradients(mine, t), state)
    assert torch.equal(mine["w"], expected["w"])


def test_contexts_nest_and_end():
    with fo.pure_engine("eager"):
        with contextlib.suppress(ZeroDivisionError), fo.pure_engine("fused"):
            assert _options._of_updates.get() == "fused"
            raise ZeroDivisionError
        assert _options._of_updates.get() == "eager"
    assert _options._of_updates.get() == "auto"


def test_there_is_no_such_engine():
    message = "`pure_engine`: `engine` must be one of 'auto', 'eager', .* got 'fast'"
    with pytest.raises(HyperparameterError, match=message), fo.pure_engine("fast"):
        pass


def test_threads_do_not_meet():
    tx = fo.adamw(0.1)
    trees = [{"w": torch.full((64,), float(k + 1), dtype=torch.float64)} for k in range(4)]
    expected = [updated(tx, params, "fused", steps=20)[0]["w"] for params in trees]
    found = [None] * 4

    def run(k):
        for _ in range(5):
            found[k] = updated(tx, trees[k], "fused", steps=20)[0]["w"]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("who", ["update", "Optimizer", "donated"])
def test_the_engine_of_the_process_has_to_be_one(who, monkeypatch):
    monkeypatch.setenv("FUNCOPT_ENGINE", "fast")
    tx, params = fo.adamw(0.1), some_params()
    made = {
        "update": lambda: tx.update(params, tx.init(params), params),
        "Optimizer": lambda: fo.Optimizer(params.values(), tx),
        "donated": lambda: fo.donated(tx),
    }
    message = f"`{who}`: `FUNCOPT_ENGINE` must be one of 'auto', 'eager', .* got 'fast'"
    with pytest.raises(HyperparameterError, match=message):
        made[who]()
    monkeypatch.setenv("FUNCOPT_ENGINE", "")
    made[who]()


# Errors are those of the operations.


def wrong_structure(tx, state, params):
    tx.update({"w": params["w"]}, state, params)


def wrong_shape(tx, state, params):
    tx.update({"w": torch.ones(2, 3), "b": torch.ones(2)}, state, params)


def no_tensor(tx, state, params):
    tx.update({"w": torch.ones(3, 2), "b": 3.0}, state, params)


def a_sparse_gradient(tx, state, params):
    tx.update({"w": torch.ones(3, 2).to_sparse(), "b": torch.ones(2)}, state, params)


def whole_numbers(tx, state, params):
    tx.update({"w": torch.ones(3, 2, dtype=torch.int64), "b": torch.ones(2)}, state, params)


def foreign_state(tx, state, params):
    tx.update(params, fo.trace(0.9).init(params), params)


def state_of_other_parameters(tx, state, params):
    tx.update(params, tx.init({"w": params["w"]}), params)


def state_of_other_shapes(tx, state, params):
    tx.update(params, tx.init({"w": torch.ones(2, 3), "b": torch.ones(3)}), params)


def unknown_extra(tx, state, params):
    tx.update(params, state, params, loss=1.0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (wrong_structure, StructureError),
        (wrong_shape, StructureError),
        (no_tensor, LeafError),
        (a_sparse_gradient, SparseGradientError),
        (whole_numbers, LeafError),
        (foreign_state, StructureError),
        (state_of_other_parameters, StructureError),
        (state_of_other_shapes, StructureError),
        (unknown_extra, ExtraArgumentError),
    ],
)
@pytest.mark.parametrize("before", [None, {"b": None}, {}], ids=["new", "None", "known"])
def test_an_error_is_the_same(call, error, before):
    said = []
    for engine in ("eager", "fused"):
        params, tx = some_params(), fo.adamw(0.1)
        state = tx.init(params)
        with watched(engine) as by_kernels:
            if before is not None:
                tx.update({**params, **before}, state, params)
            with pytest.raises(error) as caught:
                call(tx, state, params)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert by_kernels[:1] == [True] or before is None
