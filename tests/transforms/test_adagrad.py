"""`scale_by_adagrad`: dividing by the root of all squares so far."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree

from .stepping import feed, gradients, histories, magnitudes, numbers


@given(grads=gradients, steps=st.integers(1, 20))
def test_a_steady_gradient_gives_steps_that_shrink_as_the_root_of_time(grads, steps):
    updates, _ = feed(fo.scale_by_adagrad(eps=0.0), [grads] * steps)
    torch.testing.assert_close(updates[-1], grads.sign() / math.sqrt(steps), rtol=1e-14, atol=0)


@given(history=histories, begun=magnitudes)
def test_the_denominator_is_the_root_of_all_squares_and_where_they_began(history, begun):
    updates, state = feed(fo.scale_by_adagrad(initial_accumulator_value=begun, eps=0.0), history)
    total = begun + sum(g * g for g in history)
    torch.testing.assert_close(state.slots.sum, total, rtol=1e-14, atol=0)
    torch.testing.assert_close(updates[-1], history[-1] / total.sqrt(), rtol=1e-14, atol=0)


@given(history=histories)
def test_the_order_of_the_past_does_not_matter(history):
    *past, last = history
    forth, _ = feed(fo.scale_by_adagrad(), [*past, last])
    back, _ = feed(fo.scale_by_adagrad(), [*past[::-1], last])
    torch.testing.assert_close(forth[-1], back[-1], rtol=1e-14, atol=0)


@given(history=histories, power=st.integers(-40, 40))
def test_the_update_does_not_depend_on_the_scale_of_the_loss(history, power):
    updates, _ = feed(fo.scale_by_adagrad(eps=0.0), history)
    of_scaled, _ = feed(fo.scale_by_adagrad(eps=0.0), [2.0**power * g for g in history])
    assert all(map(torch.equal, updates, of_scaled))  # powers of two do not round


@given(history=histories, lr_decay=magnitudes)
def test_lr_decay_shrinks_the_steps_from_the_second_on(history, lr_decay):
    plain, _ = feed(fo.scale_by_adagrad(), history)
    decayed, _ = feed(fo.scale_by_adagrad(lr_decay=lr_decay), history)
    assert torch.equal(decayed[0], plain[0])
    expected = [u / (1 + t * lr_decay) for t, u in enumerate(plain)]
    torch.testing.assert_close(decayed, expected, rtol=1e-14, atol=0)


def test_eps_is_added_outside_the_root_or_inside():
    grads = numbers(1e-4)
    (outside,), _ = feed(fo.scale_by_adagrad(eps=1e-4), [grads])
    (inside,), _ = feed(fo.scale_by_adagrad(eps=1e-8, eps_in_sqrt=True), [grads])
    torch.testing.assert_close(outside, numbers(1 / 2), rtol=1e-14, atol=0)
    torch.testing.assert_close(inside, numbers(1 / math.sqrt(2)), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "tx", [fo.scale_by_adagrad(), fo.scale_by_adagrad(eps=0.0, eps_in_sqrt=True)], ids=repr
)
def test_where_there_never_was_a_gradient_nothing_moves(tx):
    updates, _ = feed(tx, [numbers(0.0, 1.0)] * 3)
    assert all(update[0] == 0 for update in updates)


def test_it_remembers_what_torch_remembers_by_the_same_name():
    p = torch.nn.Parameter(torch.ones(2))
    theirs = torch.optim.Adagrad([p], initial_accumulator_value=0.1)
    slots = fo.scale_by_adagrad(initial_accumulator_value=0.1).init(p.detach()).slots
    assert set(theirs.state[p]) == {"step", *tree.names(slots)}
    assert torch.equal(theirs.state[p]["sum"], slots.sum)


@pytest.mark.parametrize("name", ["lr_decay", "initial_accumulator_value", "eps"])
def test_a_negative_number_is_named(name):
    with pytest.raises(ValueError, match=f"`scale_by_adagrad`: `{name}` must not be negative"):
        fo.scale_by_adagrad(**{name: -0.1})
