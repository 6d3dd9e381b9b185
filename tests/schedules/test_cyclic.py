"""`cyclic_schedule`."""

import pytest
from torch.optim import lr_scheduler

from funcopt.schedules import cyclic_schedule

from .references import assert_same, of_torch


@pytest.mark.parametrize(
    ("up", "down", "mode", "gamma"),
    [
        (8, None, "triangular", 1.0),
        (5, 11, "triangular", 1.0),
        (7, 3, "triangular2", 1.0),
        (4, None, "triangular2", 1.0),
        (7, None, "exp_range", 0.97),
    ],
)
def test_it_is_cyclic_lr(up, down, mode, gamma):
    def scheduler(optimizer):
        return lr_scheduler.CyclicLR(
            optimizer, 0.1, 0.3, up, down, mode=mode, gamma=gamma, cycle_momentum=False
        )

    expected = of_torch(scheduler, 0.1, 120)
    assert_same(cyclic_schedule(0.1, 0.3, up, down, mode, gamma), expected)


def test_a_momentum_goes_the_other_way():
    schedule = cyclic_schedule(0.95, 0.85, 10)
    assert schedule(0) == schedule(20) == 0.95
    assert schedule(10) == schedule(30) == 0.85


def test_every_cycle_begins_exactly():
    schedule = cyclic_schedule(0.1, 0.3, 3, 7)
    assert {schedule(10 * k) for k in (0, 1, 7, 10**9)} == {0.1}
