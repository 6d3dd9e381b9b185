"""Lengths of schedules as tensors: one for each run of a sweep, or to be learned."""

import dataclasses

import pytest
import torch
from torch.func import grad, vmap

import funcopt as fo
from funcopt.errors import HyperparameterError
from funcopt.typing import Length

from ..training import common
from .cases import SCHEDULES, name

DTYPES = [torch.float64, torch.int64, torch.float32]


def with_tensors(schedule, dtype=torch.float64):
    """The same schedule, and those in it, with lengths that are tensors."""
    changes = {}
    for field in dataclasses.fields(schedule):
        value = getattr(schedule, field.name)
        if field.type is Length:
            changes[field.name] = torch.tensor(value, dtype=dtype)
        elif field.type == tuple[Length, ...]:
            changes[field.name] = tuple(torch.tensor(x, dtype=dtype) for x in value)
        elif isinstance(value, tuple) and field.name == "schedules":
            changes[field.name] = tuple(
                with_tensors(x, dtype) if isinstance(x, fo.Record) else x for x in value
            )
    return schedule.replace(**changes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_it_is_that_of_whole_numbers(schedule, dtype):
    other = with_tensors(schedule, dtype)
    for step in range(-3, 40):
        expected = torch.tensor(schedule(step), dtype=torch.float64)
        for given in (step, torch.tensor(step)):
            found = torch.as_tensor(other(given), dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


LENGTHS = [
    ("cosine", lambda n: fo.cosine_decay_schedule(0.1, n)),
    ("restarts", lambda n: fo.cosine_restarts_schedule(0.1, n, 2)),
    ("linear", lambda n: fo.linear_schedule(0.1, 0.0, n, transition_begin=n - 1)),
    ("polynomial", lambda n: fo.polynomial_schedule(0.1, 0.0, 2.0, n)),
    ("exponential", lambda n: fo.exponential_decay(0.1, n, 0.5)),
    ("steps", lambda n: fo.step_decay_schedule(0.1, n)),
    ("milestones", lambda n: fo.multi_step_decay_schedule(0.1, (1, n))),
    ("warm-up", lambda n: fo.warmup_cosine_decay_schedule(0.0, 0.1, n, 6)),
    ("no warm-up", lambda n: fo.warmup_cosine_decay_schedule(0.0, 0.1, n - 2, 6)),
    ("stable", lambda n: fo.warmup_stable_decay_schedule(0.1, 1, n, n)),
    ("one cycle", lambda n: fo.one_cycle_schedule(0.1, n + 2)),
    (
        "stable, by roots",
        lambda n: fo.warmup_stable_decay_schedule(
            0.1, n, 1, n, decay_type="1-sqrt", warmup_type="1-sqrt"
        ),
    ),
    ("cycles", lambda n: fo.cosine_cycles_schedule(0.1, n + 4)),
    ("up and down", lambda n: fo.cyclic_schedule(0.0, 0.1, n + 4)),
    ("inverse root", lambda n: fo.inverse_sqrt_schedule(0.1, n)),
    ("pieces", lambda n: fo.piecewise_constant_schedule(0.1, (1, n), (0.5, 3.0))),
    ("slopes", lambda n: fo.piecewise_interpolate_schedule(0.1, (1, n), (0.5, 3.0))),
    ("joined", lambda n: fo.join_schedules((fo.linear_schedule(0.0, 0.1, n), 0.05), (n,))),
]


@pytest.mark.parametrize(("what", "make"), LENGTHS, ids=[what for what, _ in LENGTHS])
def test_lengths_differ_in_one_sweep(what, make):
    def tx(n):
        return fo.adam(make(n))

    batches = common.batches(6)
    result = fo.sweep(common.loss, tx, {"n": [2, 3, 5]}, common.params(), batches)
    for i, n in enumerate((2, 3, 5)):
        start = fo.TrainState.start(tx(n), common.params())
        assert common.close(
            result.run(i).params, common.trained(tx(n), start, batches)[0].params, 1e-10
        )


@pytest.mark.parametrize(("what", "make"), LENGTHS, ids=[what for what, _ in LENGTHS])
def test_derivatives_by_a_length_are_finite_and_that_of_differences(what, make):
    for step in range(8):
        n, h = torch.tensor(3.3, dtype=torch.float64), 1e-6
        slope = grad(lambda n, step=step: torch.as_tensor(make(n)(torch.tensor(step))) + 0 * n)(n)
        f = lambda n, step=step: float(make(torch.tensor(n, dtype=torch.float64))(step))  # noqa: E731
        expected = (f(3.3 + h) - f(3.3 - h)) / (2 * h)
        assert abs(slope - expected) < 1e-6, step


def test_a_length_of_no_steps_in_one_of_the_runs():
    warm = vmap(lambda n: fo.warmup_cosine_decay_schedule(0.0, 0.1, n, 6)(torch.tensor(0)))
    slopes = vmap(grad(lambda n: fo.warmup_cosine_decay_schedule(0.0, 0.1, n, 6)(torch.tensor(0))))
    ns = torch.tensor([0.0, 3.0], dtype=torch.float64)
    assert warm(ns).tolist() == [0.1, 0.0]
    assert slopes(ns).isfinite().all()


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.tensor(True), torch.tensor(1j)])
def test_a_tensor_that_is_no_length_is_named(wrong):
    for make in (
        lambda: fo.cosine_decay_schedule(0.1, wrong),
        lambda: fo.linear_schedule(0.1, 0.0, 5, wrong),
        lambda: fo.multi_step_decay_schedule(0.1, (1, wrong)),
    ):
        with pytest.raises(HyperparameterError, match="must be a number of updates, got a tensor"):
            make()
