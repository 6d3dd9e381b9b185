"""`clip_by_block_rms`, `scale_by_param_block_*`, `scale_by_trust_ratio`: sizes of one tensor."""

import pytest
import torch

import funcopt as fo
import funcopt.errors
from funcopt import tree

from .stepping import feed, numbers


def once(tx, grads, params=None):
    (updates,), _ = feed(tx, [grads], params)
    return updates


def lengths(tensors):
    return [x.square().sum().sqrt().item() for x in tensors]


def test_each_tensor_is_clipped_by_itself():
    short, long = numbers(0.3, -0.4), numbers(3.0, -4.0)
    updates = once(fo.clip_by_block_rms(0.5), [short, long])
    assert torch.equal(updates[0], short)
    torch.testing.assert_close(updates[1], long * 0.5 / 12.5**0.5, rtol=1e-14, atol=0)


def test_parameters_are_never_smaller_than_the_least_scale():
    params = [numbers(3.0, 4.0), numbers(0.0, 0.0)]
    ones = tree.map(torch.ones_like, params)
    by_norm = once(fo.scale_by_param_block_norm(0.1), ones, params)
    by_rms = once(fo.scale_by_param_block_rms(0.1), ones, params)
    torch.testing.assert_close(by_norm, [numbers(5.0, 5.0), numbers(0.1, 0.1)])
    torch.testing.assert_close(by_rms, [12.5**0.5 * ones[0], 0.1 * ones[1]])


def test_an_update_is_as_long_as_its_parameter():
    params = [numbers(3.0, 4.0), numbers(0.01)]
    updates = once(fo.scale_by_trust_ratio(), [numbers(1.0, 2.0), numbers(70.0)], params)
    assert lengths(updates) == pytest.approx([5.0, 0.01], rel=1e-14)


def test_where_a_length_is_zero_the_update_is_left_alone():
    params = [numbers(0.0, 0.0), numbers(1.0, 1.0)]
    grads = [numbers(1.0, 2.0), numbers(0.0, 0.0)]
    assert tree.leaves(once(fo.scale_by_trust_ratio(), grads, params))[0].tolist() == [1.0, 2.0]
    assert once(fo.scale_by_trust_ratio(), grads, params)[1].tolist() == [0.0, 0.0]


def test_lengths_below_the_least_count_as_that():
    (u,) = once(fo.scale_by_trust_ratio(2.0), [numbers(0.0, 1.0)], [numbers(0.1, 0.1)])
    assert u.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("make", [fo.scale_by_trust_ratio, fo.scale_by_row_trust_ratio])
def test_bounds_of_the_ratio(make):
    params, grads = [numbers(3.0, 4.0)] * 2, [numbers(0.0, 1.0), numbers(0.0, 10.0)]
    assert lengths(once(make(max_ratio=1.0), grads, params)) == [1.0, 5.0]
    assert lengths(once(make(min_ratio=1.0), grads, params)) == [5.0, 10.0]
    zero = [torch.zeros_like(g) for g in grads]
    assert once(make(min_ratio=2.0), grads, zero)[0].tolist() == [0.0, 1.0]  # as without bounds


def test_the_rule_of_larc():
    """Its layerwise learning rate is at most the global one: the stage after that scales it."""
    lr, coefficient, p = 0.1, 0.02, numbers(3.0, 4.0)
    tx = fo.chain(
        fo.scale_by_learning_rate(lr),
        fo.scale_by_trust_ratio(trust_coefficient=coefficient, max_ratio=1.0),
    )
    for g in (numbers(0.0, 0.3), numbers(0.0, 30.0)):
        local = min(coefficient * p.norm() / g.norm(), lr)
        torch.testing.assert_close(once(tx, g, p), -local * g, rtol=1e-14, atol=0)


def test_each_row_has_its_own_ratio():
    p = torch.stack([numbers(3.0, 4.0), numbers(0.0, 0.1), numbers(0.0, 0.0)])
    g = torch.stack([numbers(0.0, 1.0), numbers(6.0, 8.0), numbers(1.0, 0.0)])
    updates = once(fo.scale_by_row_trust_ratio(), {"w": g, "b": g[0]}, {"w": p, "b": p[0]})
    assert updates["w"].norm(dim=1).tolist() == pytest.approx([5.0, 0.1, 1.0])
    assert lengths([updates["b"]]) == [5.0]


def test_a_wide_tensor_beside_narrow_ones_does_not_change_their_bits():
    """Each is measured, and goes on, in its own dtype."""
    generator = torch.Generator().manual_seed(0)
    narrow = [torch.randn(7, generator=generator) for _ in range(100)]
    wide = [torch.randn(7, generator=generator, dtype=torch.float64)]
    for tx in (fo.clip_by_block_rms(0.3), fo.scale_by_param_block_rms(), fo.scale_by_trust_ratio()):
        together = once(tx, narrow + wide, tree.map(torch.sin, narrow + wide))
        alone = once(tx, narrow, tree.map(torch.sin, narrow))
        assert all(map(torch.equal, together, alone))


@pytest.mark.parametrize("make", [fo.clip_by_block_rms, fo.scale_by_param_block_rms])
def test_of_nothing_the_mean_square_is_zero_and_has_a_derivative(make):
    number = torch.tensor(0.5, requires_grad=True)
    params = [torch.ones(0, 2), torch.ones(2)]
    updates = once(make(number), params, params)
    (slope,) = torch.autograd.grad(sum(u.sum() for u in updates), number)
    assert slope.isfinite()


@pytest.mark.parametrize("make", [fo.lamb, fo.lars])
def test_biases_and_norms_are_kept_out_with_a_mask(make):
    """The ratio of what is masked is not taken; so says the documentation."""
    params = {"w": torch.ones(2, 2), "b": torch.full((2,), 5.0)}
    grads = {"w": torch.full((2, 2), 3.0), "b": torch.full((2,), 3.0)}
    tx = fo.masked(fo.scale_by_trust_ratio(), lambda name, p: p.ndim > 1)
    updates = once(tx, grads, params)
    assert torch.equal(updates["b"], grads["b"])
    assert torch.equal(updates["w"], torch.ones(2, 2))
    assert make(weight_decay=0.1).init(params)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fo.clip_by_block_rms(0.0), "`clip_by_block_rms`: `threshold` must be positive"),
        (lambda: fo.scale_by_param_block_rms(-1.0), "`scale_by_param_block_rms`: `min_scale` must"),
        (lambda: fo.scale_by_trust_ratio(eps=-1.0), "`scale_by_trust_ratio`: `eps` must not be"),
    ],
)
def test_numbers_out_of_range_are_refused(make, sentence):
    with pytest.raises(funcopt.errors.HyperparameterError, match=sentence):
        make()


@pytest.mark.parametrize("tx", [fo.scale_by_param_block_norm(), fo.scale_by_trust_ratio()], ids=str)
def test_without_parameters_it_says_what_it_needs(tx):
    with pytest.raises(funcopt.errors.MissingParamsError, match=f"`{type(tx).__name__}` needs the"):
        tx.update(torch.ones(2), tx.init(torch.ones(2)))
