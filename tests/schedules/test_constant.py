"""`constant_schedule`."""

import pytest

from funcopt.schedules import constant_schedule


@pytest.mark.parametrize("step", [-1, 0, 1, 10**12, 0.5])
def test_it_is_the_same_at_every_step(step):
    assert constant_schedule(1e-3)(step) == 1e-3


def test_a_whole_number_becomes_a_float():
    assert repr(constant_schedule(2)(0)) == "2.0"
