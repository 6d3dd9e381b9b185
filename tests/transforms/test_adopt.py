"""`scale_by_adopt`: what divides a gradient was there before it."""

import pytest
import torch

import funcopt as fo

from .stepping import feed, numbers


def test_the_first_gradient_only_gives_its_square():
    (u,), state = feed(fo.scale_by_adopt(), [numbers(3.0, -0.5, 0.0)])
    assert u.tolist() == state.slots.exp_avg.tolist() == [0.0, 0.0, 0.0]
    assert state.slots.exp_avg_sq.tolist() == [9.0, 0.25, 0.0]


def test_the_second_is_divided_by_the_first_and_clipped_to_one():
    (_, u), state = feed(fo.scale_by_adopt(), [numbers(2.0, 2.0), numbers(1.0, -8.0)])
    torch.testing.assert_close(u, numbers(0.1 * 0.5, 0.1 * -1.0))
    torch.testing.assert_close(
        state.slots.exp_avg_sq, numbers(4.0, 4.0) + 1e-4 * numbers(-3.0, 60.0)
    )


def test_the_bound_grows_with_the_steps():
    history = [numbers(1.0)] * 16 + [numbers(100.0)]
    updates, _ = feed(fo.scale_by_adopt((0.0, 0.9999)), history)
    torch.testing.assert_close(updates[-1], numbers(2.0))  # 16^(1/4)
    updates, _ = feed(fo.scale_by_adopt((0.0, 0.9999), clip_exp=None), history)
    torch.testing.assert_close(updates[-1], numbers(100.0))


def test_a_parameter_without_gradients_so_far_begins_with_its_first():
    """Else its gradient would be divided by `eps`."""
    tx, params = fo.scale_by_adopt(), {"a": numbers(1.0), "late": numbers(1.0)}
    state = tx.init(params)
    for late in (None, None, numbers(5.0)):
        updates, state = tx.update({"a": numbers(1.0), "late": late}, state, params)
    assert updates["late"] == 0.0
    assert state.slots["late"].exp_avg_sq == 25.0


@pytest.mark.parametrize("b2", [0.1, 0.5])
def test_it_descends_where_adam_ascends(b2):
    """Reddi's example: a rare large gradient, and smaller ones the other way."""
    history = [numbers(3.0 if t % 3 == 0 else -1.0) for t in range(600)]
    ours, _ = feed(fo.scale_by_adopt((0.0, b2), clip_exp=None), history)
    adam, _ = feed(fo.scale_by_adam((0.0, 0.1)), history)
    assert sum(ours) > 0 > sum(adam)
