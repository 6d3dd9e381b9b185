"""`clip`, `clip_by_global_norm`."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import funcopt as fo
from funcopt import tree

from .stepping import feed, gradients, magnitudes, numbers


def once(tx, grads):
    (updates,), _ = feed(tx, [grads])
    return updates


# clip


@given(limit=magnitudes, grads=gradients)
def test_clip_is_the_nearest_point_of_the_interval(limit, grads):
    updates = once(fo.clip(limit), grads)
    assert updates.tolist() == [min(max(g, -limit), limit) for g in grads.tolist()]


def test_clip_makes_ones_of_large_entries_and_leaves_small_ones():
    grads = (numbers(500.0, 5.0), numbers(300.0, -3.0))
    torch.testing.assert_close(once(fo.clip(1e6), grads), grads, rtol=0, atol=0)
    torch.testing.assert_close(
        once(fo.clip(1.0), grads), (numbers(1.0, 1.0), numbers(1.0, -1.0)), rtol=0, atol=0
    )


def test_clip_mends_infinity_but_does_not_hide_nan():
    updates = once(fo.clip(2.0), numbers(math.inf, -math.inf, math.nan))
    torch.testing.assert_close(updates, numbers(2.0, -2.0, math.nan), equal_nan=True)


def test_clip_treats_a_complex_entry_as_two_reals():
    updates = once(fo.clip(1.0), torch.tensor([3.0 - 0.5j, 0.2 + 9.0j]))
    assert torch.equal(updates, torch.tensor([1.0 - 0.5j, 0.2 + 1.0j]))


@given(limit=magnitudes, grads=gradients)
def test_clip_is_clip_grad_value(limit, grads):
    p = torch.nn.Parameter(torch.zeros_like(grads))
    p.grad = grads.clone()
    torch.nn.utils.clip_grad_value_([p], limit)
    assert torch.equal(once(fo.clip(limit), grads), p.grad)


# clip_by_global_norm


def test_the_norm_is_taken_over_all_tensors():
    updates = once(fo.clip_by_global_norm(1.0, eps=0.0), {"a": numbers(3.0), "b": numbers(4.0)})
    torch.testing.assert_close(updates, {"a": numbers(0.6), "b": numbers(0.8)}, rtol=1e-15, atol=0)


@given(max_norm=magnitudes, a=gradients, b=gradients)
def test_after_clipping_the_norm_is_at_most_max_norm(max_norm, a, b):
    exact = tree.norm(once(fo.clip_by_global_norm(max_norm, eps=0.0), [a, b]))
    assert exact <= max_norm * (1 + 1e-15)  # two roundings
    assert tree.norm(once(fo.clip_by_global_norm(max_norm), [a, b])) <= max_norm


@given(max_norm=magnitudes, grads=gradients)
def test_with_eps_zero_a_long_gradient_gets_the_length_max_norm(max_norm, grads):
    norm = grads.norm()
    clipped = once(fo.clip_by_global_norm(max_norm, eps=0.0), grads).norm()
    torch.testing.assert_close(clipped, norm.clamp(max=max_norm), rtol=1e-15, atol=0)


@given(grads=gradients)
def test_what_is_short_enough_is_left_as_it_is(grads):
    norm = float(tree.norm(grads)) * (1 + 1e-15)  # its rounding
    assert torch.equal(once(fo.clip_by_global_norm(norm, eps=0.0), grads), grads)
    assert torch.equal(once(fo.clip_by_global_norm(norm + 1.1e-6), grads), grads)


@given(grads=gradients, limits=st.lists(magnitudes, min_size=1, max_size=3))
def test_clipping_again_and_again_is_clipping_to_the_least(grads, limits):
    again = once(fo.chain(*(fo.clip_by_global_norm(c, eps=0.0) for c in limits)), grads)
    expected = once(fo.clip_by_global_norm(min(limits), eps=0.0), grads)
    torch.testing.assert_close(again, expected, rtol=1e-14, atol=0)


@given(max_norm=magnitudes, a=gradients, b=gradients)
def test_the_factor_is_that_of_clip_grad_norm(max_norm, a, b):
    ps = [torch.nn.Parameter(torch.zeros_like(g)) for g in (a, b)]
    for p, g in zip(ps, (a, b), strict=True):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(ps, max_norm)
    updates = once(fo.clip_by_global_norm(max_norm), [a, b])
    torch.testing.assert_close(updates, [p.grad for p in ps], rtol=1e-14, atol=0)


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_zero_gradients_stay_zero(eps):
    assert torch.equal(once(fo.clip_by_global_norm(1.0, eps=eps), numbers(0.0, 0.0)), numbers(0, 0))


def test_the_norm_of_bfloat16_gradients_is_computed_in_float32():
    # In bfloat16 the root of 70,000 is 264, and a sum of ones stands still at 256.
    grads = torch.ones(70_000, dtype=torch.bfloat16)
    measured = fo.clip_by_global_norm(1.0).measure_tensor(grads.float(), (), None, None)
    assert measured == 70_000
    updates = once(fo.clip_by_global_norm(264.575 / 2, eps=0.0), grads)
    assert torch.equal(updates, torch.full_like(updates, 0.5))


def test_the_norm_of_float16_gradients_does_not_overflow():
    grads = torch.full((4,), 300.0, dtype=torch.float16)  # the sum of squares is 360,000
    assert torch.equal(once(fo.clip_by_global_norm(1.0, eps=0.0), grads), grads / 600)


def test_an_infinite_gradient_is_not_made_to_look_sound():
    updates = once(fo.clip_by_global_norm(1.0), {"bad": numbers(math.inf, 1.0), "b": numbers(1.0)})
    assert updates["bad"].isnan().tolist() == [True, False]
    assert updates["b"] == 0


def test_clipping_does_not_look_at_the_groups_of_a_chain():
    # The stage sees the output of the one before it: first doubled, then clipped.
    tx = fo.chain(fo.scale(2.0), fo.clip_by_global_norm(5.0, eps=0.0))
    torch.testing.assert_close(once(tx, numbers(3.0, 4.0)), numbers(3.0, 4.0), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: fo.clip(0.0), "`clip`: `clip_value` must be positive, got 0.0"),
        (lambda: fo.clip_by_global_norm(-1.0), "`max_norm` must be positive, got -1.0"),
        (lambda: fo.clip_by_global_norm(1.0, eps=-1e-6), "`eps` must not be negative, got -1e-06"),
    ],
)
def test_a_bad_limit_is_named(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


# clip_by_block_norm


def test_each_tensor_is_clipped_as_by_torch():
    grads = [numbers(3.0, 4.0), numbers(0.3, 0.4), numbers(30.0)]
    params = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
        torch.nn.utils.clip_grad_norm_([p], 1.0)
    updates = once(fo.clip_by_block_norm(1.0), grads)
    torch.testing.assert_close(updates, [p.grad for p in params], rtol=1e-15, atol=0)


def test_without_epsilon_the_norm_is_exactly_the_bound():
    (u,) = once(fo.clip_by_block_norm(0.5, eps=0.0), [numbers(3.0, 4.0)])
    assert u.tolist() == pytest.approx([0.3, 0.4], rel=1e-15)


# normalize_by_update_norm


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_all_updates_together_get_one_length(size):
    grads = [size * numbers(1.0, 2.0), size * numbers(-2.0)]
    updates = once(fo.normalize_by_update_norm(2.0, eps=1e-12), grads)
    assert tree.norm(updates).item() == pytest.approx(2.0, rel=1e-9)
    torch.testing.assert_close(updates[0][1:], -updates[1])


def test_updates_that_are_zero_have_no_direction():
    (u,) = once(fo.normalize_by_update_norm(), [numbers(0.0, 0.0)])
    assert u.tolist() == [0.0, 0.0]
