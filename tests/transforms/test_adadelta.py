"""`scale_by_adadelta`: steps in the unit of the parameter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree

from .stepping import decays, feed, gradients, histories, magnitudes, numbers


@given(grads=gradients, rho=decays, eps=magnitudes)
def test_the_first_step_is_set_by_eps_alone(grads, rho, eps):
    (update,), _ = feed(fo.scale_by_adadelta(rho, eps=eps), [grads])
    expected = grads * (eps / ((1 - rho) * grads * grads + eps)).sqrt()
    torch.testing.assert_close(update, expected, rtol=1e-14, atol=0)


@given(history=histories, rho=decays)
def test_a_step_is_scaled_by_the_mean_square_of_the_steps_before_it(history, rho):
    eps = 1e-3
    updates, state = feed(fo.scale_by_adadelta(rho, eps=eps), history)
    of_grads = of_steps = numbers(0.0)
    for g, u in zip(history, updates, strict=True):
        of_grads = rho * of_grads + (1 - rho) * g * g
        expected = g * (of_steps + eps).sqrt() / (of_grads + eps).sqrt()
        torch.testing.assert_close(u, expected, rtol=1e-12, atol=0)
        of_steps = rho * of_steps + (1 - rho) * u * u
    torch.testing.assert_close(state.slots.acc_delta, of_steps, rtol=1e-12, atol=0)


@given(history=histories, power=st.integers(0, 40))
def test_the_scale_of_the_loss_hardly_matters_where_eps_is_small(history, power):
    tx = fo.scale_by_adadelta(eps=1e-16)
    updates, _ = feed(tx, history)
    of_scaled, _ = feed(tx, [2.0**power * g for g in history])
    # eps / ((1 - rho) g^2) is at most 1e-9, as |g| is at least 1e-3, and half of it is felt in a
    # root; so each of up to 6 steps adds as much.
    torch.testing.assert_close(of_scaled, updates, rtol=6e-9, atol=0)


@given(history=histories)
def test_without_eps_nothing_ever_moves(history):
    updates, _ = feed(fo.scale_by_adadelta(eps=0.0), history)
    assert all(not update.any() for update in updates)


def test_where_there_never_was_a_gradient_nothing_moves():
    updates, _ = feed(fo.scale_by_adadelta(), [numbers(0.0, 1.0)] * 3)
    assert all(update[0] == 0 and update[1] > 0 for update in updates)


def test_it_remembers_what_torch_remembers_by_the_same_names():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    theirs = torch.optim.Adadelta([p])
    theirs.step()
    slots = fo.scale_by_adadelta().init(p.detach()).slots
    assert set(theirs.state[p]) == {"step", *tree.names(slots)}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"rho": -0.1}, r"`rho` must lie in \[0, 1\), got -0.1"),
        ({"eps": -1e-6}, "`eps` must not be negative, got -1e-06"),
        ({"eps": math.nan}, "`eps` must be a number, got nan"),
    ],
)
def test_a_bad_hyperparameter_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=f"`scale_by_adadelta`: {complaint}"):
        fo.scale_by_adadelta(**arguments)
