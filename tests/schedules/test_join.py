"""`join_schedules`."""

import optax
import pytest
import torch
from torch.optim import lr_scheduler

from funcopt.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    join_schedules,
    linear_schedule,
    warmup_cosine_decay_schedule,
)

from .references import assert_same, of_optax, of_torch


def test_each_part_begins_at_its_boundary():
    schedule = join_schedules(
        (constant_schedule(1.0), constant_schedule(2.0), constant_schedule(1.0)), (3, 6)
    )
    assert_same(schedule, [1, 1, 1, 2, 2, 2, 1], roundings=0)


def test_a_number_is_a_constant_part():
    assert_same(
        join_schedules((1.0, linear_schedule(2.0, 4.0, 2), 5), (1, 3)), [1, 2, 3, 5, 5], roundings=0
    )


def test_each_part_counts_from_its_boundary_and_never_outside_of_its_stretch():
    seen = []

    def part(step):
        seen.append(int(step))
        return 0.0

    join_schedules((1.0, part, 1.0), (3, 5))(torch.tensor(4))
    assert seen == [1]
    for step in range(9):
        join_schedules((1.0, part, 1.0), (3, 5))(step)
    assert set(seen) == {0, 1, 2}


def test_a_part_between_equal_boundaries_has_no_step():
    assert_same(join_schedules((1.0, 2.0, 3.0), (2, 2)), [1, 1, 3, 3], roundings=0)
    assert_same(join_schedules((1.0, 2.0), (0,)), [2, 2], roundings=0)


def test_parts_that_are_undefined_elsewhere_leave_no_trace():
    """All parts are computed for a tensor, and the slopes of those not chosen must be finite."""

    def root(step):
        return 1 / (torch.as_tensor(step) + 1.0) ** 0.5

    def of_value(value, step):
        return join_schedules((lambda step: value * (2 - step) ** 0.5, root), (2,))(step)

    value = torch.tensor(1.0, dtype=torch.float64)
    assert torch.func.grad(of_value)(value, torch.tensor(1)) == 1.0
    assert torch.func.grad(of_value)(value, torch.tensor(100)) == 0.0


def test_parts_may_jump():
    assert_same(
        join_schedules((0.1, 0.2, 0.1), (3, 6)), [0.1] * 3 + [0.2] * 3 + [0.1] * 4, roundings=0
    )
    expected = [3.0] + [15.0] * 6 + [30.0] * 5 + [45.0]
    assert_same(join_schedules((3, 15, 30, 45), (1, 7, 12)), expected, roundings=0)


def test_parts_may_be_lines():
    schedule = join_schedules(
        (linear_schedule(200.0, 300.0, 5), linear_schedule(300.0, 75.0, 5)), (5,)
    )
    assert_same(schedule, [200, 220, 240, 260, 280, 300, 255, 210, 165, 120, 75, 75, 75])
    schedule = join_schedules(
        (linear_schedule(100, 1000, 3), linear_schedule(1000, 100, 4), linear_schedule(100, 1, 3)),
        (3, 7),
    )
    assert_same(schedule, [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1])


def test_parts_may_be_cosines():
    schedule = join_schedules(
        (cosine_decay_schedule(400.0, 3, 240.0), cosine_decay_schedule(240.0, 2, 288.0)), (3,)
    )
    assert_same(schedule, [400, 360, 280, 240, 264, 288, 288, 288])


def test_cycles_may_warm_up():
    cycles = [warmup_cosine_decay_schedule(0.0, 1.0, 500, steps) for steps in (2000, 3000, 4000)]
    schedule = join_schedules(tuple(cycles), (2000, 5000))
    peaks = [step for step in range(9000) if schedule(step) == 1.0]
    assert peaks == [500, 2500, 5500]


@pytest.mark.parametrize("step", [1, 5])
def test_with_a_tensor_in_one_part_it_is_a_tensor_in_all(step):
    def of_value(value):
        return join_schedules((0.1, linear_schedule(value, 0.3, 5)), (3,))(step)

    value = torch.tensor(0.2, dtype=torch.float64)
    assert of_value(value).dtype == torch.float64
    assert torch.func.grad(of_value)(value).item() == pytest.approx({1: 0.0, 5: 0.6}[step])


def test_it_is_constant_lr():
    def scheduler(optimizer):
        return lr_scheduler.ConstantLR(optimizer, factor=0.25, total_iters=5)

    assert_same(join_schedules((0.1 * 0.25, 0.1), (5,)), of_torch(scheduler, 0.1, 20))


def test_it_is_sequential_lr():
    def scheduler(optimizer):
        parts = [
            lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 5),
            lr_scheduler.ExponentialLR(optimizer, 0.9),
        ]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[5])

    schedule = join_schedules((linear_schedule(0.01, 0.1, 5), exponential_decay(0.1, 1, 0.9)), (5,))
    assert_same(schedule, of_torch(scheduler, 0.1, 20), roundings=20)


def test_it_is_join_schedules_of_optax():
    theirs = optax.join_schedules(
        [
            optax.linear_schedule(0.0, 0.1, 5),
            optax.exponential_decay(0.1, 3, 0.5),
            optax.cosine_decay_schedule(0.2, 10),
        ],
        [5, 12],
    )
    ours = join_schedules(
        (
            linear_schedule(0.0, 0.1, 5),
            exponential_decay(0.1, 3, 0.5),
            cosine_decay_schedule(0.2, 10),
        ),
        (5, 12),
    )
    assert_same(ours, of_optax(theirs, 30))


@pytest.mark.parametrize("step", range(8))
def test_joins_can_be_joined(step):
    inner = join_schedules((2.0, 3.0), (2,))
    assert join_schedules((1.0, inner, 4.0), (2, 6))(step) == (1, 1, 2, 2, 3, 3, 4, 4)[step]
