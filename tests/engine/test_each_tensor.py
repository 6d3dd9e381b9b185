"""Chains that measure each tensor by itself: traced once, with scalars of its own for each."""

import collections
import types

import pytest
import torch

import funcopt as fo
from funcopt._core import conclude


class shorten(fo.TensorRule):
    """Divides by the norm, and counts how often it is run."""

    scale: fo.Scalar = 1.0
    elementwise = True
    measure_per = "tensor"
    calls = 0

    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        type(self).calls += 1
        return {"factor": 1 / total.sqrt(), "word": "factor"}, memory

    def update_tensor(self, g, slots, p, s):
        type(self).calls += 1
        return g * getattr(s, s.word) * s.scale, slots


CHAINS = {
    "lamb": lambda: fo.lamb(0.1),
    "lars": lambda: fo.lars(0.1),
    "cautious": lambda: fo.cautious(fo.adamw(0.1)),
    "own number": lambda: fo.chain(shorten(), fo.scale(-0.1)),
    "two measures": lambda: fo.chain(fo.clip_by_block_rms(0.5), fo.lamb(0.1)),
    "sums too": lambda: fo.chain(fo.lamb(0.1), fo.clip_by_global_norm(0.2)),
    "skipped": lambda: fo.skip_if(fo.lamb(0.1), fo.not_finite()),
    "partition": lambda: fo.partition(
        {"matrix": fo.lamb(0.1), "rest": fo.cautious(fo.adamw(0.01))},
        lambda name, p: "matrix" if p.ndim > 1 else "rest",
    ),
}
every_chain = pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
SHAPES = [(3, 4), (5,), (2, 3), (), (7,), (0,), (4, 1), (6,)]


def parameters(mixed=True):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
    narrow = range(3, len(SHAPES), 4) if mixed else ()
    return [torch.nn.Parameter(x.float() if i in narrow else x) for i, x in enumerate(made)]


def step(params, opt, t):
    for i, p in enumerate(params):
        p.grad = (p.detach() * (i + 1) + t).sin() * (0.1 + i)
    opt.step()


def assert_moved(params, opt, factor, t=1):
    """That a step is minus the gradient, times this factor of the sum of its squares."""
    before = [p.detach().clone() for p in params]
    step(params, opt, t)
    each = zip(before, params, strict=True)
    moved = [x - factor(p.grad.square().sum()) * p.grad for x, p in each]
    assert_close([p.detach() for p in params], moved)


def assert_close(one, other):
    for x, y in zip(one, other, strict=True):
        limit = 1e-12 if x.dtype is torch.float64 else 2e-6
        torch.testing.assert_close(x, y, rtol=limit, atol=limit)


@every_chain
@pytest.mark.parametrize("how", ["fused", "foreach"])
def test_groups_with_numbers_of_their_own(make, how):
    found = []
    for engine in ("eager", how):
        params = parameters(mixed=make is not CHAINS["sums too"])  # which would spread rounding
        tx = make()
        groups = [{"params": params[::2]}, {"params": params[1::2], "maximize": True}]
        opt = fo.Optimizer(groups, tx, engine=engine)
        for t in range(5):
            for key, value in opt.param_groups[1].items():
                if type(value) is float:  # every number of the second group is another
                    opt.param_groups[1][key] = value * (1.3 if t == 0 else 0.9)
            step(params, opt, t)
        found.append(params)
    assert opt.engine == how
    assert_close(*found)


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("name", sorted(set(CHAINS) - {"sums too", "skipped"}))
def test_a_group_beside_others_is_as_if_alone(name, engine):
    together, apart = parameters(), parameters()
    values = {"lr": 0.3, "trust_coefficient": 2.0, "floor": 0.4, "threshold": 0.2, "scale": 3.0}
    opts = [
        fo.Optimizer([{"params": together[::2]}, {"params": together[1::2]}], CHAINS[name]()),
        fo.Optimizer(apart[::2], CHAINS[name]()),
        fo.Optimizer(apart[1::2], CHAINS[name]()),
    ]
    for group in (*opts[0].param_groups[len(opts[1].param_groups) :], *opts[2].param_groups):
        group.update({key: value for key, value in values.items() if key in group})
    for t in range(4):
        for i, p in enumerate((*together, *apart)):
            i %= len(SHAPES)
            p.grad = (p.detach() * (i + 1) + t).sin() * (0.1 + i)
        for opt in opts:
            opt.step()
    assert_close(together, apart)


@every_chain
def test_who_joins_late_has_clocks_and_numbers_of_its_own(make):
    found = []
    for engine in ("eager", "fused"):
        params = parameters(mixed=make is not CHAINS["sums too"])
        opt = fo.Optimizer(params, make(), engine=engine)
        for t in range(6):
            opt.zero_grad()
            for p in params[: 4 if t < 3 else None]:
                p.grad = (p.detach() + t).cos()
            opt.step()
        found.append(params)
    assert_close(*found)


@pytest.mark.parametrize("how", ["fused", "foreach"])
def test_many_tensors_are_traced_and_concluded_as_one(how, monkeypatch):
    params = [torch.nn.Parameter(torch.full((3,), float(i + 1))) for i in range(30)]
    opt = fo.Optimizer(params, fo.chain(shorten(), fo.scale(-1.0)), engine=how)
    for t in range(4):
        for p in params:
            p.grad = torch.full_like(p, 1.0 + t)
        monkeypatch.setattr(shorten, "calls", 0)
        opt.step()
    assert opt.engine == how
    assert shorten.calls == 1  # `conclude`, for all of them: the rest is replayed
    lengths = [4 / 3**0.5] * 30
    moved = [float((i + 1) - p.detach()[0]) for i, p in enumerate(params)]
    assert moved == pytest.approx(lengths)


def updates(tx, steps=3):
    params = {str(i): p.detach() for i, p in enumerate(parameters())}
    params["narrow"] = torch.linspace(-1, 1, 5, dtype=torch.bfloat16)
    params["single"] = torch.linspace(-1, 2, 6)
    state = tx.init(params)
    for t in range(steps):
        grads = {k: (p * 3 + t).sin() for k, p in params.items()}
        found, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, found)
    return params


@every_chain
def test_to_conclude_of_all_at_once_changes_no_bit(make, monkeypatch):
    found = []
    for together in (1, 1000):
        monkeypatch.setattr(conclude, "MIN_BATCH", together)
        found.append(updates(make()))
    torch.testing.assert_close(*found, rtol=0, atol=0)


class by_value(fo.TensorRule):
    """Looks at what it is given."""

    elementwise = True
    measure_per = "tensor"

    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        factor = 0.5 if total > 1.0 else float(total)
        return {"factor": torch.as_tensor(factor, dtype=total.dtype)}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots


@pytest.mark.parametrize("how", ["eager", "fused", "foreach"])
def test_a_rule_that_looks_at_values_is_asked_of_each(how):
    params = parameters()
    opt = fo.Optimizer(params, fo.chain(by_value(), fo.scale(-1.0)), engine=how)
    assert_moved(params, opt, lambda total: 0.5 if total > 1.0 else total)
    assert opt.engine == how


class by_number(by_value):
    """Concludes numbers, about which it asks."""

    def conclude(self, s, memory, total):
        return {"factor": float(total)}, memory

    def update_tensor(self, g, slots, p, s):
        return g * (0.5 if s.factor > 1.0 else s.factor), slots


@pytest.mark.parametrize("how", ["eager", "fused", "foreach"])
def test_a_question_to_a_number_that_each_tensor_has_of_its_own(how):
    params = parameters()
    opt = fo.Optimizer(params, fo.chain(by_number(), fo.scale(-1.0)), engine=how)
    assert_moved(params, opt, lambda total: 0.5 if total > 1.0 else total)
    assert opt.engine == "eager"  # what is done is not the same for all of them


class at_times_of_each(by_value):
    """Has one number for all while `mode` is low, later one for each."""

    mode: fo.Scalar = 1.0

    def conclude(self, s, memory, total):
        return {"factor": 0.5 if s.mode < 1.5 else 1 / (1 + total)}, memory


@pytest.mark.parametrize("how", ["fused", "foreach"])
def test_a_number_of_all_that_becomes_one_of_each(how):
    found = []
    for engine in ("eager", how):
        params = parameters(mixed=False)
        opt = fo.Optimizer(params, fo.chain(at_times_of_each(), fo.scale(-1.0)), engine=engine)
        for t, mode in enumerate((1.0, 1.2, 2.0, 2.1, 1.0)):
            opt.param_groups[0]["mode"] = mode
            step(params, opt, t)
        found.append(params)
    assert opt.engine == how
    assert_close(*found)


class told(by_value):
    """Keeps what it is told."""

    seen: tuple = ()

    def conclude(self, s, memory, total):
        self.seen.append(total)
        return {"factor": 1 / (1 + total)}, memory


@pytest.mark.parametrize("together", [1, 1000])
def test_each_is_told_in_its_own_dtype(together, monkeypatch):
    monkeypatch.setattr(conclude, "MIN_BATCH", together)
    dtypes = [torch.float64, torch.bfloat16, torch.float32, torch.float64]
    params = {str(i): torch.full((2,), 1.0 + i, dtype=x) for i, x in enumerate(dtypes)}
    tx = told([])
    tx.update(params, tx.init(params), params)
    times = 2 if together == 1000 else 1  # one by one, or all of a dtype
    assert [x.dtype for x in tx.seen] == [torch.float64] * times + [torch.float32] * times
    assert all(x.shape == () for x in tx.seen)


ANSWERS = {
    "frozen": lambda total: types.MappingProxyType({"factor": 1 / (1 + total)}),
    "ordered": lambda total: collections.OrderedDict(factor=1 / (1 + total)),
    "of a pair": lambda total: {"pair": (1 / (1 + total), 3), "factor": 1 / (1 + total)},
    "a whole number": lambda total: {"factor": 1 / (1 + total), "count": 3},
}


class answering(by_value):
    answer: object = None

    def conclude(self, s, memory, total):
        return self.answer(total), memory


@pytest.mark.parametrize("how", ["eager", "fused", "foreach"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_any_kind(name, how):
    params = parameters()
    opt = fo.Optimizer(params, fo.chain(answering(ANSWERS[name]), fo.scale(-1.0)), engine=how)
    for t in range(3):
        assert_moved(params, opt, lambda total: 1 / (1 + total), t)
    assert opt.engine == how


class Hidden:
    def __init__(self, value):
        self.value = value


class hiding(by_value):
    def conclude(self, s, memory, total):
        return {"box": Hidden(1 / (1 + total))}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.box.value, slots


@pytest.mark.parametrize("how", ["eager", "fused", "foreach"])
def test_an_answer_that_hides_a_tensor(how):
    params = parameters()
    opt = fo.Optimizer(params, fo.chain(hiding(), fo.scale(-1.0)), engine=how)
    assert_moved(params, opt, lambda total: 1 / (1 + total))


class limited(by_value):
    """Chooses between what was measured and a number of a wider dtype."""

    least: fo.Scalar = 0.0

    def conclude(self, s, memory, total):
        return {"factor": torch.where(total > 2.0, total, s.least) * 1e50}, memory


def test_a_wider_number_makes_the_same_beside_many_tensors_as_beside_few():
    tx = limited(torch.tensor(1e-50, dtype=torch.float64))
    params = {str(i): torch.full((3,), 0.1 * (i + 1)) for i in range(6)}
    alone = {k: tx.update({k: p}, tx.init({k: p}))[0][k] for k, p in params.items()}
    together, _ = tx.update(params, tx.init(params))
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
