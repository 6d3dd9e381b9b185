"""`add_decayed_weights`: coupled or decoupled is a matter of its place in the chain."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt.errors import MissingParamsError

from ..frameworks import needed
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


# Cautious


def test_cautious_decay_is_that_of_heavyball(monkeypatch):
    """Where no entry is zero: there it asks for the sign bit."""
    heavyball = needed("heavyball")
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    torch.manual_seed(0)
    p, u = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    tx = fo.chain(fo.add_cautious_decayed_weights(0.5), fo.scale_by_learning_rate(0.1))
    ours, _ = tx.update(u, tx.init(p), p)
    theirs = p.clone()
    heavyball.utils.update_param_([theirs], [u.clone()], 0.1, 0.5, cautious_decay=True)
    torch.testing.assert_close(p + ours, theirs, rtol=1e-14, atol=1e-15)


def test_only_what_moves_towards_zero_decays():
    params = numbers(2.0, -2.0, 2.0, -2.0, 0.0, 3.0)
    (u,), _ = feed(
        fo.add_cautious_decayed_weights(0.5), [numbers(1.0, -1.0, -1.0, 1.0, 1.0, 0.0)], params
    )
    assert u.tolist() == [2.0, -2.0, -1.0, 1.0, 1.0, 1.5]


def test_entries_whose_product_is_too_small_for_a_float_have_signs_too():
    (u,), _ = feed(fo.add_cautious_decayed_weights(1.0), [numbers(-1e-200)], numbers(1e-200))
    assert u == -1e-200


def test_it_ends_where_it_would_without_decay():
    """The minimum of a quadratic; plain decay ends before it."""
    ends = []
    for decay in (fo.add_cautious_decayed_weights(0.5), fo.add_decayed_weights(0.5)):
        tx, p = fo.chain(decay, fo.scale_by_learning_rate(0.1)), numbers(0.0)
        state = tx.init(p)
        for _ in range(300):
            updates, state = tx.update(p - 1.0, state, p)
            p = fo.apply_updates(p, updates)
        ends.append(p.item())
    assert ends == pytest.approx([1.0, 1.0 / 1.5])
