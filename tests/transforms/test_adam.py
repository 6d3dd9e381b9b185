"""`scale_by_adam`: what the papers promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree

from .stepping import decays, feed, gradients, histories, numbers

betas = st.tuples(decays, decays)


@given(grads=gradients, betas=betas, amsgrad=st.booleans())
def test_the_first_update_is_the_sign_of_the_gradient(grads, betas, amsgrad):
    (update,), _ = feed(fo.scale_by_adam(betas, eps=0.0, amsgrad=amsgrad), [grads])
    torch.testing.assert_close(update, grads.sign(), rtol=1e-15, atol=0)


@given(grads=gradients, betas=betas, steps=st.integers(1, 20))
def test_a_steady_gradient_gives_its_sign_at_every_step(grads, betas, steps):
    updates, _ = feed(fo.scale_by_adam(betas, eps=0.0), [grads] * steps)
    torch.testing.assert_close(updates[-1], grads.sign(), rtol=1e-12, atol=0)


@given(
    history=histories,
    power=st.integers(-40, 40),
    amsgrad=st.booleans(),
    nesterov=st.booleans(),
)
def test_the_update_does_not_depend_on_the_scale_of_the_loss(history, power, amsgrad, nesterov):
    tx = fo.scale_by_adam(eps=0.0, amsgrad=amsgrad, nesterov=nesterov)
    updates, _ = feed(tx, history)
    of_scaled, _ = feed(tx, [2.0**power * g for g in history])
    assert all(map(torch.equal, updates, of_scaled))  # powers of two do not round


@given(history=histories, betas=st.tuples(st.floats(0.0, 0.9), st.floats(0.9, 0.999)))
def test_no_history_makes_a_longer_step_than_cauchy_and_schwarz_allow(history, betas):
    b1, b2 = betas
    t = len(history)
    updates, _ = feed(fo.scale_by_adam(betas, eps=0.0), history)
    spread = sum((b1 * b1 / b2) ** k for k in range(t))
    limit = (1 - b1) / (1 - b1**t) * math.sqrt((1 - b2**t) / (1 - b2) * spread)
    assert updates[-1].abs().max() <= limit * (1 + 1e-12)


def test_after_a_long_silence_a_gradient_makes_the_longest_step_of_the_paper():
    silence = [numbers(1e-200)] * 3000  # not zero, so that no step divides by it
    b1, b2 = 0.9, 0.99
    updates, _ = feed(fo.scale_by_adam((b1, b2), eps=0.0), [*silence, numbers(1.0)])
    torch.testing.assert_close(
        updates[-1], numbers((1 - b1) / math.sqrt(1 - b2)), rtol=1e-12, atol=0
    )


@given(history=histories, b2=decays)
def test_with_amsgrad_the_denominator_is_the_greatest_mean_square_so_far(history, b2):
    tx = fo.scale_by_adam((0.0, b2), eps=0.0, amsgrad=True)
    state, greatest, mean = tx.init(history[0]), numbers(0.0), numbers(0.0)
    for t, g in enumerate(history, start=1):
        before = state.slots.max_exp_avg_sq
        update, state = tx.update(g, state)
        assert (state.slots.max_exp_avg_sq >= before).all()
        mean = b2 * mean + (1 - b2) * g * g
        greatest = torch.maximum(greatest, mean)
        expected = g / (greatest / (1 - b2**t)).sqrt()
        torch.testing.assert_close(update, expected, rtol=1e-12, atol=0)


def test_with_nesterov_the_first_update_looks_ahead():
    (update,), _ = feed(fo.scale_by_adam((0.9, 0.999), eps=0.0, nesterov=True), [numbers(-3.0)])
    torch.testing.assert_close(update, numbers(-(0.9 / 1.9 + 1.0)), rtol=1e-14, atol=0)


@given(history=histories, b2=decays)
def test_without_momentum_nesterov_changes_nothing(history, b2):
    plain, _ = feed(fo.scale_by_adam((0.0, b2)), history)
    ahead, _ = feed(fo.scale_by_adam((0.0, b2), nesterov=True), history)
    torch.testing.assert_close(ahead, plain, rtol=1e-15, atol=0)


@given(history=histories, b2=decays, nesterov=st.booleans(), amsgrad=st.booleans())
def test_without_first_moment_it_steps_as_without_momentum_and_keeps_no_mean(
    history, b2, nesterov, amsgrad
):
    tx = fo.scale_by_adam((0.0, b2), amsgrad=amsgrad, nesterov=nesterov, first_moment=False)
    updates, state = feed(tx, history)
    kept, _ = feed(fo.scale_by_adam((0.0, b2), amsgrad=amsgrad), history)
    assert all(map(torch.equal, updates, kept))
    assert state.slots.exp_avg == ()


def test_eps_is_added_outside_the_root_and_eps_root_inside():
    grads = numbers(1e-4)
    (outside,), _ = feed(fo.scale_by_adam(eps=1e-4), [grads])
    (inside,), _ = feed(fo.scale_by_adam(eps=0.0, eps_root=1e-8), [grads])
    torch.testing.assert_close(outside, numbers(1 / 2), rtol=1e-14, atol=0)
    torch.testing.assert_close(inside, numbers(1 / math.sqrt(2)), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("state_dtype", "grown", "faded"),
    [(None, 0.25, 0.25), (torch.float32, 1 - 0.999**400, 0.25 * 0.999**400)],
)
def test_in_bfloat16_the_mean_square_stands_still_and_in_float32_it_learns(
    state_dtype, grown, faded
):
    # From 0.25 on, half a unit in the last place of bfloat16 is 2^-10, more than 0.001 * 0.75.
    tx = fo.scale_by_adam((0.9, 0.999), state_dtype=state_dtype)
    p = torch.zeros(1, dtype=torch.bfloat16)
    _, state = feed(tx, [torch.ones_like(p)] * 400)
    assert state.slots.exp_avg_sq.item() == pytest.approx(grown, rel=1e-5)
    state = state._replace(slots=tree.map(lambda x: torch.full_like(x, 0.25), state.slots))
    for _ in range(400):
        _, state = tx.update(p, state)
    assert state.slots.exp_avg_sq.item() == pytest.approx(faded, rel=1e-5)


def test_a_parameter_whose_gradient_comes_late_meets_a_clock_that_has_run():
    tx = fo.scale_by_adam((0.9, 0.999), eps=0.0)
    params = {"early": numbers(0.0), "late": torch.zeros(1, dtype=torch.float64)}
    state = tx.init(params)
    _, state = tx.update({"early": numbers(1.0), "late": None}, state)
    updates, _ = tx.update({"early": numbers(1.0), "late": numbers(1.0)}, state)
    late = (0.1 / (1 - 0.9**2)) / math.sqrt(0.001 / (1 - 0.999**2))
    torch.testing.assert_close(updates["late"], numbers(late), rtol=1e-12, atol=0)
    torch.testing.assert_close(updates["early"], numbers(1.0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_it_remembers_what_torch_remembers_by_the_same_names(amsgrad):
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    theirs = torch.optim.Adam([p], amsgrad=amsgrad)
    theirs.step()
    slots = fo.scale_by_adam(amsgrad=amsgrad).init(p.detach()).slots
    assert set(theirs.state[p]) == {"step", *tree.names(slots)}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"betas": (1.0, 0.999)}, r"`betas\[0\]` must lie in \[0, 1\), got 1.0"),
        ({"betas": (0.9, -0.1)}, r"`betas\[1\]` must lie in \[0, 1\), got -0.1"),
        ({"betas": 0.9}, "`betas` must be a tuple of 2 numbers, got 0.9"),
        ({"betas": (0.9,)}, r"`betas` must be a tuple of 2 numbers, got \(0.9,\)"),
        ({"first_moment": False}, r"`betas\[0\]` must be 0 without `first_moment`, got 0.9"),
        ({"eps": -1e-8}, "`eps` must not be negative, got -1e-08"),
        ({"eps_root": -1e-8}, "`eps_root` must not be negative, got -1e-08"),
    ],
)
def test_a_bad_hyperparameter_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=f"`scale_by_adam`: {complaint}"):
        fo.scale_by_adam(**arguments)
