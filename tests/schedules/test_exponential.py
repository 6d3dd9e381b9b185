"""`exponential_decay`, `step_decay_schedule` and `multi_step_decay_schedule`."""

import optax
import pytest
import torch
from torch.optim import lr_scheduler

from funcopt.schedules import exponential_decay, multi_step_decay_schedule, step_decay_schedule

from .references import assert_same, of_optax, of_torch


def test_it_halves_at_every_step():
    assert_same(exponential_decay(32.0, 1, 0.5), [32.0, 16.0, 8.0, 4.0, 2.0], roundings=0)


def test_a_staircase_stops_at_the_end_value():
    schedule = exponential_decay(1.0, 2, 0.5, staircase=True, end_value=0.2)
    assert_same(schedule, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2], roundings=0)


def test_growing_values_stop_at_the_end_value_from_below():
    schedule = exponential_decay(1.0, 1, 2.0, transition_begin=1, end_value=10.0)
    assert_same(schedule, [1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0], roundings=0)


def test_far_beyond_the_end_value_nothing_overflows():
    schedule = exponential_decay(1e-8, 1, 1.1, end_value=1.0)
    assert schedule(10**9) == schedule(torch.tensor(10**9)) == 1.0


def test_without_an_end_value_numbers_overflow_as_tensors_do():
    schedule = exponential_decay(1.0, 1, 2.0)
    assert schedule(10**9) == schedule(torch.tensor(10**9)) == float("inf")


@pytest.mark.parametrize("staircase", [False, True])
@pytest.mark.parametrize("begin", [0, 5])
@pytest.mark.parametrize(("rate", "end"), [(0.7, None), (0.7, 0.05), (1.3, 0.5), (1.0, 0.5)])
def test_exponential_decay_is_that_of_optax(rate, end, begin, staircase):
    arguments = (0.1, 7, rate, begin, staircase, end)
    expected = of_optax(optax.exponential_decay(*arguments), 80)
    assert_same(exponential_decay(*arguments), expected, roundings=8)


def test_exponential_decay_is_exponential_lr():
    expected = of_torch(lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9), 0.1, 60)
    # Torch multiplies what it had before, and so gathers roundings.
    assert_same(exponential_decay(0.1, 1, 0.9), expected, roundings=20)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_step_decay_is_step_lr(size, gamma):
    expected = of_torch(lambda optimizer: lr_scheduler.StepLR(optimizer, size, gamma), 0.1, 60)
    assert_same(step_decay_schedule(0.1, size, gamma), expected, roundings=60)


@pytest.mark.parametrize("milestones", [(3, 6), (2, 2, 5), (1, 40), ()])
def test_multi_step_decay_is_multi_step_lr(milestones):
    def scheduler(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, list(milestones), 0.3)

    assert_same(multi_step_decay_schedule(0.1, milestones, 0.3), of_torch(scheduler, 0.1, 60))


def test_multi_step_decay_is_piecewise_constant_in_optax():
    expected = of_optax(optax.piecewise_constant_schedule(0.1, {3: 0.3, 6: 0.3}), 10)
    assert_same(multi_step_decay_schedule(0.1, (3, 6), 0.3), expected)


@pytest.mark.parametrize("size", [1, 3, 7, 10, 49, 1000])
def test_every_stair_begins_where_it_should(size):
    schedule = step_decay_schedule(1.0, size, 0.5)
    for stair in range(1, 60):
        assert schedule(stair * size - 1) == 0.5 ** (stair - 1)
        assert schedule(stair * size) == schedule(torch.tensor(stair * size)) == 0.5**stair
