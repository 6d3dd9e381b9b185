"""`half_life_schedule`."""

import math

import pytest

from funcopt.schedules import half_life_schedule


def half_life(decay):
    return math.log(0.5) / math.log(decay)


def test_the_half_life_is_linear_between_the_ends():
    schedule = half_life_schedule(0.9, 0.9999, 100, transition_begin=7)
    first, last = half_life(0.9), half_life(0.9999)
    for step in range(101):
        expected = first + (last - first) * step / 100
        assert half_life(schedule(7 + step)) == pytest.approx(expected, rel=1e-11)


def test_it_is_exact_at_its_ends():
    schedule = half_life_schedule(0.9, 0.9999, 100, transition_begin=7)
    assert {schedule(step) for step in range(8)} == {0.9}
    assert {schedule(step) for step in (107, 108, 10**9)} == {0.9999}


def test_halfway_it_is_where_its_documentation_says():
    assert round(half_life_schedule(0.9, 0.9999, 2)(1), 4) == 0.9998
