"""`linear_schedule` and `polynomial_schedule`."""

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from funcopt.schedules import linear_schedule, polynomial_schedule

from .references import assert_same, of_optax, of_torch


def test_linear_reaches_its_end_and_stays_there():
    assert_same(linear_schedule(10.0, 20.0, 10), [*range(10, 20), *[20.0] * 5])


def test_polynomial_of_power_two():
    expected = [10.0 + 15.0 * (1 - n / 10) ** 2 for n in range(10)] + [10.0] * 5
    assert_same(polynomial_schedule(25.0, 10.0, 2, 10), expected)


def test_the_transition_can_be_put_off():
    expected = [30.0] * 4 + [10.0 + 20.0 * (1 - n / 10) ** 2 for n in range(10)] + [10.0] * 6
    assert_same(polynomial_schedule(30.0, 10.0, 2, 10, transition_begin=4), expected)


def test_polynomial_of_power_one_is_linear():
    line, power = linear_schedule(0.3, 0.1, 7, 2), polynomial_schedule(0.3, 0.1, 1.0, 7, 2)
    assert [line(step) for step in range(12)] == [power(step) for step in range(12)]


@given(start=st.floats(-1e3, 1e3), end=st.floats(-1e3, 1e3), steps=st.integers(1, 1000))
def test_both_ends_are_exact(start, end, steps):
    schedule = linear_schedule(start, end, steps)
    assert schedule(0) == start
    assert schedule(steps) == schedule(steps + 1) == end


@given(value=st.floats(-1e3, 1e3), steps=st.integers(1, 1000), step=st.integers(0, 1000))
def test_without_a_difference_it_is_constant(value, steps, step):
    assert linear_schedule(value, value, steps)(step) == value


@given(power=st.floats(0.1, 5.0), steps=st.integers(2, 200))
def test_it_never_turns_round(power, steps):
    schedule = polynomial_schedule(0.1, 0.7, power, steps)
    assert np.all(np.diff([schedule(step) for step in range(steps + 1)]) >= 0)


@pytest.mark.parametrize(("start", "end"), [(1 / 3, 1.0), (1.0, 0.1), (0.5, 0.0)])
def test_linear_is_linear_lr(start, end):
    def scheduler(optimizer):
        return lr_scheduler.LinearLR(optimizer, start, end, total_iters=20)

    # Torch multiplies what it had before, and so gathers roundings.
    assert_same(
        linear_schedule(0.1 * start, 0.1 * end, 20), of_torch(scheduler, 0.1, 40), roundings=20
    )


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_polynomial_is_polynomial_lr(power):
    def scheduler(optimizer):
        return lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=power)

    assert_same(
        polynomial_schedule(0.1, 0.0, power, 20), of_torch(scheduler, 0.1, 40), roundings=20
    )


@pytest.mark.parametrize("begin", [0, 3])
@pytest.mark.parametrize("power", [1.0, 2.0, 0.5, 3])
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.01), (0.0, 1.0), (-1.0, 2.0)])
def test_polynomial_is_that_of_optax(start, end, power, begin):
    expected = of_optax(optax.polynomial_schedule(start, end, power, 20, begin), 40)
    assert_same(polynomial_schedule(start, end, power, 20, begin), expected)


def test_linear_is_that_of_optax():
    assert_same(
        linear_schedule(0.1, 0.01, 20, 3), of_optax(optax.linear_schedule(0.1, 0.01, 20, 3), 40)
    )
