"""Memory of all parameters, and memory of each clock: in groups, and for late joiners."""

from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from ..cases import by_dimension
from ..combinators.common import (
    START,
    drive,
    grads_at,
    named_parameters,
    purely,
    resumes,
    same,
    same_bits,
    step,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

CONCLUDED = []


class Path(NamedTuple):
    path: torch.Tensor


class travel(fo.TensorRule):
    """Divides by the length of the way so far: one number for all parameters."""

    pace: fo.Scalar = 0.5
    gain: fo.Scalar = 1.0
    elementwise = True
    memory_per = "tree"

    def init_memory(self, like):
        return Path(like + 1)

    def measure_tensor(self, g, slots, p, s):
        return g.abs().sum()

    def conclude(self, s, memory, total):
        CONCLUDED.append(type(self).__name__)
        path = memory.path + s.pace * total
        return {"way": path}, Path(path)

    def update_tensor(self, g, slots, p, s):
        return -s.gain * g / s.way, slots

    def sign(self):
        return None


class age(fo.TensorRule):
    """Divides by the number of updates of a clock, which it counts."""

    elementwise = True

    def init_memory(self, like):
        return Path(like.clone())

    def conclude(self, s, memory, total):
        CONCLUDED.append(type(self).__name__)
        return {"age": memory.path + 1}, Path(memory.path + 1)

    def update_tensor(self, g, slots, p, s):
        return -0.1 * g / s.age, slots

    def sign(self):
        return None


@pytest.fixture(autouse=True)
def concluded():
    CONCLUDED.clear()
    return CONCLUDED


@pytest.fixture
def by_operations(monkeypatch):
    """Where a kernel concludes, `conclude` is traced, and then not called any more."""
    monkeypatch.setenv("FUNCOPT_ENGINE", "eager")


def in_groups(tx, *more):
    """An optimizer with one group for each parameter."""
    params = named_parameters()
    groups = [
        {"params": [(name, p)], **own} for (name, p), own in zip(params.items(), more, strict=True)
    ]
    return params, fo.Optimizer(groups, tx)


def test_one_memory_of_several_groups_is_that_of_one_group(concluded, by_operations):
    params, opt = in_groups(travel(), {}, {}, {})
    drive(opt, params, 5)
    assert concluded == 5 * ["travel"]
    assert same(values(params), purely(travel(), 5)[0])


def test_groups_may_differ_in_what_the_memory_does_not_read():
    params, opt = in_groups(travel(), {"gain": 2.0}, {"lr": 0.5}, {})
    drive(opt, params, 1)
    way = 1 + 0.5 * sum(g.abs().sum() for g in grads_at(START, 0).values())
    factors = {"b": 2.0, "gain": 0.5, "w": 1.0}
    expected = {n: p - factors[n] * grads_at(START, 0)[n] / way for n, p in START.items()}
    assert same(values(params), expected, 1e-15)
    assert {s["path"].item() for s in opt.state.values()} == {way.item()}


def test_groups_that_differ_in_what_it_reads_are_an_error_that_names_it():
    params, opt = in_groups(travel(), {}, {}, {"pace": 0.1})
    with pytest.raises(HyperparameterError) as error:
        drive(opt, params, 1)
    assert str(error.value) == (
        "`travel` shares scalars over all parameters, so `pace` must be the same in all parameter "
        "groups."
    )
    assert same_bits(values(params), START)
    assert not opt.state


def test_a_schedule_that_groups_share_is_the_same_in_all():
    tx = travel(pace=fo.linear_schedule(0.5, 0.1, 4))
    params, opt = in_groups(tx, {}, {}, {})
    drive(opt, params, 5)
    assert same(values(params), purely(tx, 5)[0])


@pytest.mark.parametrize("tx", [travel(), age(), fo.chain(fo.trace(0.9), travel(), age())])
def test_the_optimizer_does_as_the_pure_form_and_resumes(tx):
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 3, 6)


def test_a_late_joiner_takes_the_memory_of_all(concluded, by_operations):
    params, opt = wrapped(travel(), 3, {n: START[n] for n in ("b", "gain")})
    way = opt.state[params["b"]]["path"].item()
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    grads = grads_at({**values(params), "w": START["w"]}, 3)
    way += 0.5 * sum(g.abs().sum().item() for g in grads.values())
    drive(opt, {**params, "w": late}, 1, first=3)
    assert len(concluded) == 4
    assert opt.state[late]["path"].item() == pytest.approx(way, rel=1e-15)
    torch.testing.assert_close(late.detach(), START["w"] - grads["w"] / way, rtol=1e-14, atol=0)


def test_who_misses_steps_does_not_bring_back_the_past():
    params, opt = wrapped(travel(), 1)
    way = opt.state[params["b"]]["path"].item()
    one = {n: torch.ones_like(p) for n, p in params.items()}
    for missing in ("b", "w", "gain"):
        grads = {n: g for n, g in one.items() if n != missing}
        step(opt, params, grads)
        way += 0.5 * sum(g.numel() for g in grads.values())
        assert [s["path"].item() for s in opt.state.values()] == pytest.approx(3 * [way])


def test_who_takes_no_part_in_a_step_but_was_there_is_saved_with_the_memory_of_all():
    params, opt = wrapped(travel(), 2)
    step(opt, params, {"w": torch.ones_like(params["w"])})
    again = named_parameters(values(params))
    fresh = fo.Optimizer(list(again.items()), travel())
    fresh.load_state_dict(opt.state_dict())
    drive(opt, params, 2, first=3)
    drive(fresh, again, 2, first=3)
    assert same_bits(values(again), values(params))


def test_memory_of_a_clock_starts_anew_for_a_late_joiner(concluded):
    params, opt = wrapped(age(), 3, {n: START[n] for n in ("b", "gain")})
    late = torch.nn.Parameter(START["w"].clone())
    opt.add_param_group({"params": [("w", late)]})
    drive(opt, {**params, "w": late}, 1, first=3)
    assert concluded == 5 * ["age"]
    ages = {n: opt.state[p]["path"].item() for n, p in {**params, "w": late}.items()}
    assert ages == {"b": 4, "gain": 4, "w": 1}
    assert same({"w": late}, {"w": START["w"] - 0.1 * grads_at(START, 3)["w"]}, 1e-15)


def test_memory_of_a_clock_stands_while_a_parameter_has_no_gradient():
    params, opt = wrapped(age(), 2)
    step(opt, params, {"w": torch.ones_like(params["w"])})
    ages = {n: opt.state[p]["path"].item() for n, p in params.items()}
    assert ages == {"b": 2, "gain": 2, "w": 3}


def test_groups_of_one_clock_conclude_each_with_its_own_numbers(concluded):
    params, opt = in_groups(age(), {}, {"lr": 0.5}, {})
    drive(opt, params, 2)
    assert concluded == 6 * ["age"]


def test_labels_have_memories_of_their_own():
    tx = fo.partition({"matrix": travel(pace=0.1), "rest": travel()}, by_dimension)
    params, opt = wrapped(tx, 4)
    assert same(values(params), purely(tx, 4)[0])
    apart = {
        **purely(travel(), 4, {n: START[n] for n in ("b", "gain")})[0],
        **purely(travel(pace=0.1), 4, {"w": START["w"]})[0],
    }
    assert same(values(params), apart)
    assert opt.state[params["b"]]["path"] == opt.state[params["gain"]]["path"]
    assert opt.state[params["b"]]["path"] != opt.state[params["w"]]["path"]
    assert resumes(tx, 2, 5)


class preparing(fo.TensorRule):
    """Concludes once for all groups, of a number that it has prepared."""

    k: fo.Scalar = 1.0
    elementwise = True
    memory_per = "tree"

    def prepare(self, step, memory):
        return {"kk": 2 * self.k}

    def measure_tensor(self, g, slots, p, s):
        return g.sum()

    def conclude(self, s, memory, total):
        return {"factor": s.kk}, memory

    def update_tensor(self, g, slots, p, s):
        return g * s.factor, slots

    def sign(self):
        return None


def test_what_is_prepared_of_a_number_that_differs_differs_too():
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    opt = fo.Optimizer([{"params": [a]}, {"params": [b], "k": 5.0}], preparing())
    a.grad = b.grad = torch.ones(1)
    with pytest.raises(ValueError, match="`kk` must be the same in all parameter groups"):
        opt.step()
