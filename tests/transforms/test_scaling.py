"""`scale`, `scale_by_learning_rate`, `scale_by_sign`."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo

from .stepping import feed, gradients, numbers

GRADS = {"w": numbers(0.5, -2.0), "b": torch.tensor(3.0, dtype=torch.float64)}


@pytest.mark.parametrize("factor", [0.1**i for i in range(1, 50)])
def test_scale_multiplies_every_entry_by_the_factor(factor):
    (updates,), _ = feed(fo.scale(factor), [GRADS])
    torch.testing.assert_close(updates, {k: factor * g for k, g in GRADS.items()}, rtol=0, atol=0)


def test_scale_by_a_tensor_is_scale_by_its_number():
    factor = torch.tensor(-0.3, dtype=torch.float64)
    (updates,), _ = feed(fo.scale(factor), [GRADS])
    (expected,), _ = feed(fo.scale(-0.3), [GRADS])
    torch.testing.assert_close(updates, expected, rtol=0, atol=0)


@given(lr=st.floats(0.0, 1e3), grads=gradients)
def test_the_learning_rate_turns_the_sign(lr, grads):
    (updates,), _ = feed(fo.scale_by_learning_rate(lr), [grads])
    assert torch.equal(updates, -lr * grads)


def test_the_learning_rate_leaves_the_sign_on_request():
    (updates,), _ = feed(fo.scale_by_learning_rate(0.5, flip_sign=False), [numbers(2.0)])
    assert torch.equal(updates, numbers(1.0))


def test_only_what_turns_the_sign_can_descend():
    assert fo.scale_by_learning_rate(0.1).sign() == -1
    assert fo.scale_by_learning_rate(0.1, flip_sign=False).sign() == 1
    assert fo.scale_by_sign().sign() == 1
    assert fo.chain(fo.adamw(0.1), fo.scale_by_learning_rate(0.1)).sign() == 1
    assert fo.chain(fo.scale_by_adam(), fo.scale(-0.1)).sign() == -1
    assert fo.scale(fo.linear_schedule(1.0, -1.0, 9)).sign() is None


def test_a_schedule_sees_the_number_of_updates_already_made():
    seen = []

    def schedule(count):
        seen.append(count)
        return 10.0**count

    updates, _ = feed(fo.scale_by_learning_rate(schedule), [numbers(1.0)] * 3)
    assert seen == [0, 1, 2]
    assert updates == [numbers(-1.0), numbers(-10.0), numbers(-100.0)]


@given(grads=gradients)
def test_the_sign_is_the_gradient_over_its_size(grads):
    (updates,), _ = feed(fo.scale_by_sign(), [grads])
    assert torch.equal(updates, grads / grads.abs())


def test_the_sign_of_zero_is_zero():
    (updates,), _ = feed(fo.scale_by_sign(), [numbers(0.0, -0.0, math.inf, -1e-300)])
    assert torch.equal(updates, numbers(0.0, 0.0, 1.0, -1.0))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: fo.scale(math.nan), "`scale`: `factor` must be a number, got nan"),
        (lambda: fo.scale("half"), "`scale`: `factor` must be a number, .* got 'half'"),
        (lambda: fo.scale(torch.ones(2)), r"`factor` must be a single number, got .* \(2,\)"),
        (lambda: fo.scale_by_learning_rate(-0.1), "`lr` must not be negative, got -0.1"),
    ],
)
def test_a_bad_factor_is_named(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_zero_nans_leaves_infinities():
    (u,), _ = feed(fo.zero_nans(), [numbers(1.0, math.nan, math.inf, -math.inf)])
    assert u.tolist() == [1.0, 0.0, math.inf, -math.inf]
