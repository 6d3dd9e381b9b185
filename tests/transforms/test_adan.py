"""`scale_by_adan`: the change of the gradient is its own average."""

import torch

import funcopt as fo

from .stepping import feed, numbers


def test_while_gradients_are_equal_it_is_adam():
    history = [numbers(0.5, -2.0)] * 5
    ours, state = feed(fo.scale_by_adan(), history)
    adam, _ = feed(fo.scale_by_adam((0.98, 0.99)), history)
    torch.testing.assert_close(ours, adam, rtol=1e-14, atol=0)
    assert state.slots.exp_avg_diff.tolist() == [0.0, 0.0]


def test_the_change_is_that_from_the_previous_gradient():
    _, state = feed(fo.scale_by_adan((0.9, 0.75, 0.5)), [numbers(1.0), numbers(3.0)])
    torch.testing.assert_close(state.slots.exp_avg_diff, numbers(0.25 * 2.0))
    torch.testing.assert_close(
        state.slots.exp_avg_sq, numbers(0.5 * 0.5 * 1.0 + 0.5 * (3.0 + 0.75 * 2.0) ** 2)
    )
    assert state.slots.previous_grad == 3.0


def test_a_first_gradient_is_no_change_even_if_it_comes_late():
    tx, params = fo.scale_by_adan(), {"a": numbers(1.0), "late": numbers(1.0)}
    state = tx.init(params)
    for late in (None, None, numbers(-5.0)):
        _, state = tx.update({"a": numbers(1.0), "late": late}, state, params)
    assert state.slots["late"].exp_avg_diff == 0.0


def test_a_zero_is_a_gradient_too():
    _, state = feed(fo.scale_by_adan(), [numbers(-0.0), numbers(2.0)])
    torch.testing.assert_close(state.slots.exp_avg_diff, numbers(0.08 * 2.0))


def test_the_previous_gradient_is_a_copy():
    tx, g = fo.scale_by_adan(), numbers(1.0, 2.0)
    _, state = tx.update(g, tx.init(g))
    g.zero_()
    assert state.slots.previous_grad.tolist() == [1.0, 2.0]
