"""`add_decayed_weights`: coupled or decoupled is a matter of its place in the chain."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt.errors import MissingParamsError

from .stepping import feed, gradients, magnitudes, numbers

PARAMS = numbers(1.0, -2.0, 0.0)
NO_GRADIENT = torch.zeros_like(PARAMS)


@given(weight_decay=magnitudes, grads=gradients)
def test_it_adds_the_slope_of_half_the_squared_length(weight_decay, grads):
    params = (grads * 3 - 1).requires_grad_()
    (slope,) = torch.autograd.grad(0.5 * weight_decay * params.square().sum(), params)
    (updates,), _ = feed(fo.add_decayed_weights(weight_decay), [grads], params.detach())
    torch.testing.assert_close(updates, grads + slope, rtol=1e-15, atol=1e-12)


def test_after_adam_the_parameters_shrink_by_the_same_share_in_every_step():
    tx = fo.chain(fo.scale_by_adam(), fo.add_decayed_weights(0.5), fo.scale_by_learning_rate(0.1))
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        updates, state = tx.update(NO_GRADIENT, state, params)
        params = fo.apply_updates(params, updates)
    torch.testing.assert_close(params, PARAMS * (1 - 0.1 * 0.5) ** 4, rtol=1e-15, atol=0)


def test_before_adam_the_decay_is_normalised_away():
    tx = fo.chain(
        fo.add_decayed_weights(0.5), fo.scale_by_adam(eps=1e-30), fo.scale_by_learning_rate(0.1)
    )
    (updates,), _ = feed(tx, [NO_GRADIENT], PARAMS)
    torch.testing.assert_close(updates, numbers(-0.1, 0.1, 0.0), rtol=1e-15, atol=0)


def test_a_parameter_without_gradient_is_not_decayed():
    tx = fo.add_decayed_weights(0.1)
    params = {"a": PARAMS, "b": PARAMS.clone()}
    updates, _ = tx.update({"a": NO_GRADIENT, "b": None}, tx.init(params), params)
    torch.testing.assert_close(updates["a"], 0.1 * PARAMS, rtol=0, atol=0)
    assert updates["b"] is None


def test_without_decay_the_parameters_are_not_needed():
    (updates,), _ = feed(fo.add_decayed_weights(0.0), [PARAMS])
    assert torch.equal(updates, PARAMS)


@pytest.mark.parametrize("weight_decay", [0.1, torch.tensor(0.0), lambda count: 0.0])
def test_with_a_decay_that_may_not_be_zero_they_are(weight_decay):
    with pytest.raises(MissingParamsError, match="`add_decayed_weights` needs the parameters"):
        feed(fo.add_decayed_weights(weight_decay), [PARAMS])


@given(values=st.lists(magnitudes, min_size=1, max_size=4))
def test_the_decay_follows_a_schedule_from_zero_on(values):
    tx = fo.add_decayed_weights(lambda count: values[count])
    updates, _ = feed(tx, [NO_GRADIENT] * len(values), PARAMS)
    for update, value in zip(updates, values, strict=True):
        assert torch.equal(update, value * PARAMS)


def test_a_negative_decay_is_named():
    with pytest.raises(ValueError, match=r"`weight_decay` must not be negative, got -0.1"):
        fo.add_decayed_weights(-0.1)
