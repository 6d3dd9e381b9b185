"""`one_cycle_schedule`."""

import warnings

import pytest
from torch.optim import lr_scheduler

from funcopt.schedules import one_cycle_schedule

from .references import assert_same, of_torch


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("pct_start", [0.0, 0.05, 0.25, 0.3, 0.45, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("total", [7, 30, 101])
def test_it_is_one_cycle_lr(total, pct_start, three_phase, anneal):
    def scheduler(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer,
            0.1,
            total,
            pct_start=pct_start,
            anneal_strategy=anneal,
            cycle_momentum=False,
            three_phase=three_phase,
        )

    schedule = one_cycle_schedule(
        0.1, total, pct_start, anneal_strategy=anneal, three_phase=three_phase
    )
    assert_same(schedule, of_torch(scheduler, 0.1, total), roundings=8)


def test_its_divisors_are_those_of_one_cycle_lr():
    def scheduler(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer, 0.1, 40, cycle_momentum=False, div_factor=7.0, final_div_factor=30.0
        )

    schedule = one_cycle_schedule(0.1, 40, div_factor=7.0, final_div_factor=30.0)
    assert_same(schedule, of_torch(scheduler, 0.1, 40))


def test_the_last_value_stays():
    schedule = one_cycle_schedule(1.0, 10, div_factor=10.0, final_div_factor=100.0)
    assert schedule(9) == schedule(10) == schedule(1000) == 0.001


def test_all_the_way_up_there_is_no_way_down():
    schedule = one_cycle_schedule(1.0, 10, pct_start=1.0)
    assert schedule(9) == schedule(10) == 1.0


def test_a_way_up_of_no_length_begins_at_the_peak():
    """Here torch divides by zero."""
    assert one_cycle_schedule(1.0, 10, pct_start=0.1)(0) == 1.0
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        of_torch(lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1.0, 10, pct_start=0.1), 1, 1)
