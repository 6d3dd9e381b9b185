"""`cosine_decay_schedule`, `cosine_restarts_schedule` and `cosine_cycles_schedule`."""

import math

import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from funcopt.schedules import (
    cosine_cycles_schedule,
    cosine_decay_schedule,
    cosine_restarts_schedule,
    join_schedules,
    linear_schedule,
)

from ..frameworks import needed
from .references import assert_same, of_optax, of_torch


def test_it_stays_at_its_end():
    schedule = cosine_decay_schedule(1.0, 100, end_value=0.1)
    for step in (0, 10, 50, 75, 100):
        half = (1 + math.cos(math.pi * step / 100)) / 2
        assert schedule(step) == pytest.approx(0.9 * half + 0.1, rel=1e-15)
    assert schedule(100) == schedule(101) == schedule(10**9) == 0.1


def test_it_is_exact_over_many_steps():
    schedule = cosine_decay_schedule(1000.0, 10**10)
    assert schedule(10**9) == pytest.approx(975.52826, rel=1e-8)
    assert schedule(torch.tensor(10**9)).item() == schedule(10**9)


@pytest.mark.parametrize("end", [0.0, 0.01, 0.5])
def test_cosine_decay_is_cosine_annealing_lr_up_to_its_end(end):
    def scheduler(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, 50, end)

    # Torch multiplies what it had before, and so gathers roundings.
    assert_same(cosine_decay_schedule(0.1, 50, end), of_torch(scheduler, 0.1, 51), roundings=40)


@pytest.mark.parametrize("end", [0.0, 0.01, 0.5])
def test_cosine_decay_is_that_of_optax(end):
    expected = of_optax(optax.cosine_decay_schedule(0.1, 50, alpha=end / 0.1), 80)
    assert_same(cosine_decay_schedule(0.1, 50, end), expected)


@pytest.mark.parametrize("end", [0.0, 0.01])
@pytest.mark.parametrize("growth", [1, 2, 3, 10])
@pytest.mark.parametrize("first", [1, 2, 3, 7, 10])
def test_cosine_restarts_is_cosine_annealing_warm_restarts(first, growth, end):
    def scheduler(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, growth, end)

    expected = of_torch(scheduler, 0.1, 1500)
    assert_same(cosine_restarts_schedule(0.1, first, growth, end), expected)
    batch = cosine_restarts_schedule(0.1, first, growth, end)(torch.arange(1500))
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(batch, expected, rtol=0, atol=1e-16)


def restarts(first, growth, most):
    """The steps at which cycles begin, and the cycles' lengths, in whole numbers."""
    begin, length = 0, first
    while begin < most:
        yield begin, length
        begin, length = begin + length, length * growth


@given(first=st.integers(1, 10**4), growth=st.integers(2, 12))
def test_every_restart_is_exact(first, growth):
    schedule = cosine_restarts_schedule(1.0, first, growth)
    begins, lengths = zip(*restarts(first, growth, 2**48), strict=True)
    assert [schedule(begin) for begin in begins] == [1.0] * len(begins)
    assert torch.equal(schedule(torch.tensor(begins)), torch.ones(len(begins)).double())
    ends = [begin + length - 1 for begin, length in zip(begins, lengths, strict=True)]
    last = [(1 + math.cos(math.pi * (1 - 1 / length))) / 2 for length in lengths]
    assert [schedule(end) for end in ends] == pytest.approx(last, abs=1e-15)
    assert schedule(torch.tensor(ends)).tolist() == pytest.approx(last, abs=1e-15)


@given(first=st.integers(1, 10**6), cycle=st.integers(0, 10**6))
def test_every_restart_of_equal_cycles_is_exact(first, cycle):
    schedule = cosine_restarts_schedule(1.0, first)
    assert schedule(cycle * first) == schedule(torch.tensor(cycle * first)) == 1.0


def test_between_steps_it_is_continuous_but_for_restarts():
    schedule = cosine_restarts_schedule(1.0, 4, 2)
    assert schedule(3.999) == pytest.approx(0.0, abs=1e-6)
    assert schedule(4.001) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("warmup", "steps", "cycles"), [(0, 64, 4), (8, 64, 2), (10, 50, 1)])
def test_cosine_cycles_are_the_hard_restarts_of_transformers(warmup, steps, cycles):
    def scheduler(optimizer):
        make = needed("transformers").get_cosine_with_hard_restarts_schedule_with_warmup
        return make(optimizer, warmup, warmup + steps, cycles)

    ours = cosine_cycles_schedule(0.1, steps, cycles)
    if warmup:
        ours = join_schedules((linear_schedule(0.0, 0.1, warmup), ours), (warmup,))
    assert_same(ours, of_torch(scheduler, 0.1, warmup + steps + 10))


@given(steps=st.integers(1, 10**6), cycles=st.integers(1, 50))
def test_every_cycle_of_a_fixed_time_begins_exactly(steps, cycles):
    schedule = cosine_cycles_schedule(1.0, steps * cycles, cycles)
    assert {schedule(steps * k) for k in range(cycles)} == {1.0}
    assert schedule(steps * cycles) == 0.0
