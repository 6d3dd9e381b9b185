"""`scale_by_rms`: dividing by the root mean square, or by the standard deviation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree

from .stepping import decays, feed, gradients, histories, numbers


@given(grads=gradients, alpha=decays, steps=st.integers(1, 20))
def test_a_steady_gradient_gives_its_sign_times_what_the_mean_still_lacks(grads, alpha, steps):
    updates, _ = feed(fo.scale_by_rms(alpha, eps=0.0), [grads] * steps)
    expected = grads.sign() / math.sqrt(1 - alpha**steps)
    torch.testing.assert_close(updates[-1], expected, rtol=1e-12, atol=0)


def test_the_first_update_is_ten_times_the_sign_at_the_default_rate():
    (update,), _ = feed(fo.scale_by_rms(eps=0.0), [numbers(-3.0, 0.5)])
    torch.testing.assert_close(update, numbers(-10.0, 10.0), rtol=1e-14, atol=0)


@given(history=histories, alpha=decays)
def test_adam_without_momentum_is_this_with_its_bias_corrected(history, alpha):
    ours, _ = feed(fo.scale_by_rms(alpha, eps=0.0), history)
    adam, _ = feed(fo.scale_by_adam((0.0, alpha), eps=0.0), history)
    corrected = [u * math.sqrt(1 - alpha**t) for t, u in enumerate(ours, start=1)]
    torch.testing.assert_close(corrected, adam, rtol=1e-14, atol=0)


@given(history=histories, power=st.integers(-40, 40), centered=st.booleans())
def test_the_update_does_not_depend_on_the_scale_of_the_loss(history, power, centered):
    tx = fo.scale_by_rms(0.9, eps=0.0, centered=centered)
    updates, _ = feed(tx, history)
    of_scaled, _ = feed(tx, [2.0**power * g for g in history])
    assert all(map(torch.equal, updates, of_scaled))  # powers of two do not round


@given(history=histories, alpha=st.floats(0.1, 0.999))
def test_centered_divides_by_the_root_of_the_variance(history, alpha):
    updates, _ = feed(fo.scale_by_rms(alpha, eps=1.0, centered=True), history)
    mean = square = numbers(0.0)
    for g in history:
        mean = alpha * mean + (1 - alpha) * g
        square = alpha * square + (1 - alpha) * g * g
    expected = history[-1] / ((square - mean * mean).sqrt() + 1.0)
    torch.testing.assert_close(updates[-1], expected, rtol=1e-9, atol=0)


@given(grads=gradients)
def test_centered_makes_a_longer_step_where_gradients_agree(grads):
    plain, _ = feed(fo.scale_by_rms(0.9), [grads] * 5)
    centered, _ = feed(fo.scale_by_rms(0.9, centered=True), [grads] * 5)
    assert (centered[-1].abs() > plain[-1].abs()).all()


def test_a_variance_that_rounds_below_zero_counts_as_zero():
    tx = fo.scale_by_rms(0.5, eps=1e-3, centered=True)
    below = 0
    for i in range(100):
        grads = torch.full((1,), 0.1 + 0.001 * i)
        updates, state = feed(tx, [grads] * 60)
        below += int((state.slots.square_avg - state.slots.grad_avg**2).item() < 0)
        assert (updates[-1] <= 1001 * grads).all()
    assert below > 0  # it does happen


def test_eps_is_added_outside_the_root_or_inside():
    grads = numbers(1e-4)
    (outside,), _ = feed(fo.scale_by_rms(0.0, eps=1e-4), [grads])
    (inside,), _ = feed(fo.scale_by_rms(0.0, eps=1e-8, eps_in_sqrt=True), [grads])
    torch.testing.assert_close(outside, numbers(1 / 2), rtol=1e-14, atol=0)
    torch.testing.assert_close(inside, numbers(1 / math.sqrt(2)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("centered", [False, True])
def test_it_remembers_what_torch_remembers_by_the_same_names(centered):
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    theirs = torch.optim.RMSprop([p], centered=centered)
    theirs.step()
    slots = fo.scale_by_rms(centered=centered).init(p.detach()).slots
    assert set(theirs.state[p]) == {"step", *tree.names(slots)}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"alpha": 1.0}, r"`alpha` must lie in \[0, 1\), got 1.0"),
        ({"eps": -1e-8}, "`eps` must not be negative, got -1e-08"),
    ],
)
def test_a_bad_hyperparameter_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=f"`scale_by_rms`: {complaint}"):
        fo.scale_by_rms(**arguments)


@pytest.mark.parametrize("initial", [0.0, 1.0, torch.tensor(0.25)])
def test_the_average_starts_where_it_is_told(initial):
    tx = fo.scale_by_rms(0.75, eps=0.0, initial_scale=initial)
    (u,), state = feed(tx, [numbers(0.5)])
    expected = 0.75 * float(initial) + 0.25 * 0.25
    torch.testing.assert_close(state.slots.square_avg, numbers(expected))
    torch.testing.assert_close(u, numbers(0.5 / expected**0.5))
