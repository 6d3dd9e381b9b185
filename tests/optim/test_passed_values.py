"""A value that changes before every step goes straight to the kernels, if that is all there is."""

import math

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim
from funcopt._numerics.scalars import has_schedule
from funcopt.engine import ContentsGuard
from funcopt.errors import HyperparameterError
from funcopt.optim import _optimizer, _passed_values
from funcopt.optim._passed_values import Condition, Watched

from ..cases import CASES

EVERY = [case for case in CASES if not case.tx.takes_examples() and not case.tx.extra_names()]


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.delenv("FUNCOPT_KERNELS", raising=False)
    monkeypatch.delenv("FUNCOPT_ENGINE", raising=False)


@pytest.fixture
def passed(monkeypatch):
    """What was passed on, or not."""
    found, known = [], _passed_values.PassedValues.take

    def take(self, *given):
        found.append(known(self, *given))
        return found[-1]

    monkeypatch.setattr(_passed_values.PassedValues, "take", take)
    return found


def parameters(sizes=((3, 4), (5,), (40,))):
    return [nn.Parameter(torch.linspace(-1, 1, math.prod(s)).reshape(s)) for s in sizes]


def train(opt, steps, change=lambda group, t: None, start=0):
    """Steps with gradients that depend on the parameters; values are set before each."""
    ps = [p for group in opt.param_groups for p in group["params"]]
    for t in range(start, start + steps):
        for group in opt.param_groups:
            change(group, t)
        for p in ps:
            p.grad = (p.detach() + t).sin()
        opt.step()
    states = (x for p in ps for x in opt.state[p].values())
    kept = [x for x in states if isinstance(x, torch.Tensor)]
    return [x.detach().clone() for x in (*ps, *kept)]


def assert_same(one, other):
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def both_ways(make, monkeypatch, work):
    """What `work` makes of an optimizer that gets ready, and of one that does not."""
    one = work(make())
    with monkeypatch.context() as patch:
        patch.setattr(_optimizer, "ready_step", lambda *_: None)
        other = work(make())
    assert_same(one, other)


def lower(value):
    """The same kind of value, with somewhat smaller numbers."""
    if type(value) is tuple:
        return tuple(map(lower, value))
    return value * 0.999 if type(value) is float else value


@pytest.mark.parametrize("case", EVERY, ids=str)
@pytest.mark.filterwarnings("ignore:`Optimizer`")  # steps that go uphill
def test_every_chain_makes_the_steps_that_it_makes_otherwise(case, monkeypatch):
    """To the bit: first with one value that changes, then with all numbers of a group."""
    own = [k for k, x in fo.hyperparams(case.tx).items() if not has_schedule(x)]
    first = own[-1:]  # the learning rate, most of the time

    counts = []

    def change(group, t):
        for key in first if t < 36 else own:
            if key in group:
                group[key] = lower(group[key])

    def make():
        torch.manual_seed(0)
        return fo.Optimizer(zip(("w", "b", "c"), parameters(), strict=True), case.tx)

    def work(opt):
        train(opt, 12)
        counts.append(4 if opt._ready is None else 52)  # else they are made in the usual way
        return train(opt, counts[0], change, start=12)

    both_ways(make, monkeypatch, work)


CHAINS = {
    "sgd": lambda ps: fo.Optimizer(ps, fo.sgd(0.1, momentum=0.9)),
    "adamw": lambda ps: fo.Optimizer(ps, fo.adamw(1e-2)),
    "clip, average": lambda ps: fo.Optimizer(
        ps, fo.chain(fo.clip_by_global_norm(0.3), fo.adamw(1e-2), fo.ema_of_params(0.9))
    ),
    "skip_if": lambda ps: fo.Optimizer(ps, fo.skip_if(fo.adamw(1e-2))),
    "accumulate": lambda ps: fo.Optimizer(ps, fo.accumulate(fo.adamw(1e-2), 3)),
    "AdamW": lambda ps: optim.AdamW(ps, lr=1e-2),
    "AdamW, clipped": lambda ps: optim.AdamW(ps, lr=1e-2, max_grad_norm=1.0),
    "SGD": lambda ps: optim.SGD(ps, lr=1e-2, momentum=0.9),
    "Lion": lambda ps: optim.Lion(ps, lr=1e-3),
    "LAMB": lambda ps: optim.LAMB(ps, lr=1e-3),
}


def decays(group, t):
    if t >= 30:
        group["lr"] *= 0.99


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_a_learning_rate_is_passed_on(make, passed, monkeypatch):
    both_ways(lambda: make(parameters()), monkeypatch, lambda opt: train(opt, 100, decays))
    assert passed[-40:] == [True] * 40


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_in_other_dtypes(dtype, passed, monkeypatch):
    def make():
        ps = [nn.Parameter(p.detach().to(dtype)) for p in parameters()]
        return optim.AdamW(ps, lr=1e-2, rounding=None if dtype is torch.float64 else "kahan")

    both_ways(make, monkeypatch, lambda opt: train(opt, 90, decays))
    assert passed[-20:] == [True] * 20


def test_groups_have_their_own(passed, monkeypatch):
    def make():
        a, b, c = parameters()
        return optim.AdamW([{"params": [a, b]}, {"params": [c], "lr": 0.5}], lr=1e-2)

    def change(group, t):
        if t >= 30 and (group["lr"] > 0.1 or t % 2):
            group["lr"] *= 0.99

    both_ways(make, monkeypatch, lambda opt: train(opt, 100, change))
    assert passed[-20:] == [True] * 20


def test_there_may_be_many_groups(passed, monkeypatch):
    """As many as layers, each with a learning rate of its own."""

    def make():
        ps = parameters([(3,)] * 100)
        return optim.AdamW([{"params": [p], "lr": 0.01 + k / 1000} for k, p in enumerate(ps)])

    both_ways(make, monkeypatch, lambda opt: train(opt, 70, decays))
    assert passed[-5:] == [True] * 5


@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD])
def test_schedulers_that_cycle_the_momentum_too(cls, passed, monkeypatch):
    """Which is one of a pair of numbers."""

    def work(opt):
        scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=200)
        train(opt, 40)
        scheduler.step()
        out = []
        for t in range(100):
            out = train(opt, 1, start=t)
            scheduler.step()
        return out

    options = {"momentum": 0.9} if cls is optim.SGD else {}
    both_ways(lambda: cls(parameters(), lr=0.01, **options), monkeypatch, work)
    assert passed[-40:] == [True] * 40


def limited(lr=0.1, momentum=0.9):
    if lr > 0.5:
        raise ValueError("too fast")
    return fo.sgd(lr, momentum=momentum)


def computed(lr=0.1, momentum=0.9):
    return fo.sgd(math.sqrt(lr), momentum=momentum)


def multiplied(lr=0.1, momentum=0.9):
    return fo.sgd(2 * lr, momentum=momentum)


def chosen(lr=0.1, momentum=0.9):
    return fo.sgd(lr, momentum=momentum if lr > 0.05 else 0.5)


def compared(lr=0.1, momentum=0.9):
    return fo.sgd(lr if lr < momentum else momentum, momentum=momentum)


@pytest.mark.parametrize("function", [computed, multiplied, chosen, compared])
def test_functions_make_of_a_value_what_they_want(function, passed, monkeypatch):
    """Only what they pass on as it is goes past them."""
    cls = optim.optimizer_class("Mine", function)

    def change(group, t):
        if t >= 30:
            group["lr"] *= 0.98
        if t in (70, 90):
            group["momentum"] = 0.02

    both_ways(lambda: cls(parameters()), monkeypatch, lambda opt: train(opt, 110, change))
    assert (True in passed) == (function in (chosen, compared))


def with_a_limit(lr=0.1, limit=5.0):
    return fo.sgd(lr if lr < limit else 0.001, momentum=0.9)


def test_what_a_value_was_compared_with_may_change(monkeypatch):
    """It is no hyperparameter of the chain."""
    cls = optim.optimizer_class("Mine", with_a_limit)

    def change(group, t):
        decays(group, t)
        if t == 70:
            group["limit"] = -1

    both_ways(lambda: cls(parameters()), monkeypatch, lambda opt: train(opt, 90, change))


def test_what_else_has_changed_is_seen(monkeypatch):
    """Parameters are not among the values."""

    def change(group, t):
        decays(group, t)
        if t == 70:
            del group["params"][1]

    make = CHAINS["AdamW"]
    both_ways(lambda: make(parameters()), monkeypatch, lambda opt: train(opt, 90, change))


def test_zero_is_found_out_in_the_usual_way(passed):
    """Slots may come and go with a value, such as a momentum."""
    opt = CHAINS["AdamW"](parameters())
    train(opt, 60, decays)
    assert passed[-1]
    opt.param_groups[0]["lr"] = 0.0
    train(opt, 1, start=60)
    assert not passed[-1]


def test_a_list_beside_it_that_is_written_is_seen(monkeypatch):
    """It is the same object, with other numbers in it."""

    def make():
        opt = CHAINS["AdamW"](parameters())
        opt.param_groups[0]["betas"] = [0.9, 0.99]
        return opt

    def change(group, t):
        decays(group, t)
        if t in (70, 71, 80):
            group["betas"][0] *= 0.5

    both_ways(make, monkeypatch, lambda opt: train(opt, 90, change))


def test_slots_that_come_and_go_with_a_value(monkeypatch):
    def change(group, t):
        group["momentum"] = 0.9 - t / 100 if t < 70 else 0.0 if t < 80 else 0.5

    def work(opt):
        return [*train(opt, 75, change), *train(opt, 15, change, start=75)]

    both_ways(lambda: optim.SGD(parameters(), lr=0.01, momentum=0.9), monkeypatch, work)


def test_the_guard_knows_which_values_have_changed():
    dicts = [{"a": 1.5, "b": 2.5}, {"c": 3.5}]
    guard = ContentsGuard(dicts, [])
    assert guard.changes() == []
    dicts[0]["b"] = dicts[1]["c"] = 4.5
    assert guard.changes() == [(0, "b", 4.5), (1, "c", 4.5)]
    assert not guard.holds()
    guard.take_over()
    assert guard.holds()
    assert guard.changes() == []
    others = {"d": 1.0, "a": 1.5, "b": 4.5}, {"d": 1.0, "a": 1.5}, {"d": 1.0, "e": 1.5}
    for other in others:
        dicts[0].clear()
        dicts[0].update(other)
        assert guard.changes() is None
        guard = ContentsGuard(dicts, [])


def test_a_function_refuses_what_it_refuses(passed):
    opt = optim.optimizer_class("Mine", limited)(parameters())
    train(opt, 60, decays)
    assert passed[-1]
    before = [p.detach().clone() for p in opt.param_groups[0]["params"]]
    opt.param_groups[0]["lr"] = 0.6
    for _ in range(2):
        with pytest.raises(ValueError, match="too fast"):
            opt.step()
    assert_same(before, opt.param_groups[0]["params"])
    opt.param_groups[0]["lr"] = 0.4
    opt.step()


@pytest.mark.parametrize("make", [CHAINS["adamw"], CHAINS["AdamW"]])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "fast", None])
def test_a_value_that_is_none_is_refused_as_ever(make, value, passed):
    said = []
    for steps in (2, 60):
        opt = make(parameters())
        train(opt, steps, decays)
        opt.param_groups[0]["lr"] = value
        before = [p.detach().clone() for p in opt.param_groups[0]["params"]]
        with pytest.raises((HyperparameterError, TypeError)) as error:
            opt.step()
        said.append(str(error.value))
        assert_same(before, opt.param_groups[0]["params"])
    assert said[0] == said[1]
    assert True in passed


@pytest.mark.parametrize(
    "values",
    [
        (0.1, 0.0, 0.1, 0.0, 0.2),
        (0.1, 1, 0.1, 2),
        (0.1, torch.tensor(0.2), 0.1),
        (0.1, 0.2, 0.2, 0.1),
        (0.1, 5e-324, 0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [CHAINS["sgd"], CHAINS["AdamW"]])
def test_values_of_other_kinds_are_no_exception(make, values, monkeypatch):
    def change(group, t):
        group["lr"] = 0.1 * 0.99**t if t < 60 else values[t % len(values)]

    both_ways(lambda: make(parameters()), monkeypatch, lambda opt: train(opt, 100, change))


def test_a_value_that_changes_beside_it_is_seen(monkeypatch):
    """With it, before it or after it; so is a key more."""

    def change(group, t):
        decays(group, t)
        if t in (70, 80, 81, 90):
            group["weight_decay"] = 0.1 + t / 100
        if t == 95:
            group["betas"] = (0.5, 0.6)
        if t == 100:
            group["note"] = t
        if t == 110:
            group["maximize"] = True

    make = CHAINS["AdamW"]
    both_ways(lambda: make(parameters()), monkeypatch, lambda opt: train(opt, 120, change))


def test_metrics_are_those_of_the_value_that_is_there(monkeypatch):
    def make():
        return fo.Optimizer(parameters(), fo.chain(fo.adamw(1e-2), fo.monitor()))

    def work(opt):
        train(opt, 90, decays)
        return list(opt.metrics().values())

    both_ways(make, monkeypatch, work)


def test_a_watched_number_notes_what_it_is_compared_with():
    noted = []
    a, b = Watched(0.5, 0, noted), Watched(0.25, 1, noted)
    assert 0 <= a < 1.0
    assert a > b
    assert a
    assert [x[1:] for x in noted] == [
        (0, 0, False, True),
        (0, 1.0, False, True),
        (0, 1, True, True),
        (0, 0.0, False, True),
    ]
    assert all(x.holds((0.9, 0.1)) for x in noted)
    for numbers in ((-0.1, -0.2), (1.0, 0.5), (0.1, 0.2), (0.0, -1.0), (math.nan, 0.0)):
        assert not all(x.holds(numbers) for x in noted)
    assert not Condition(float.__lt__, 0, math.inf, False, True).holds((math.inf,))


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + 1,
        lambda x: 2 * x,
        lambda x: -x,
        lambda x: abs(x),
        lambda x: x**2,
        lambda x: int(x),
        lambda x: float(x),
        lambda x: round(x, 2),
        lambda x: math.floor(x),
        lambda x: f"{x:.2f}",
        lambda x: str(x),
        lambda x: {x: 1},
        lambda x: x == torch.tensor(1.0),
        lambda x: x.hex(),
    ],
)
def test_anything_else_that_is_made_of_it_is_refused(use):
    with pytest.raises(_passed_values._LookedAt):
        use(Watched(0.5, 0, []))
