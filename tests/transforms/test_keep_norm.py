"""`keep_norm`, and what Hyperball is made of."""

import importlib

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from ..frameworks import needed
from .stepping import numbers

LR = 0.1


def stepped(tx, params, steps=60):
    """The parameters after some steps, whose gradients depend on them."""
    state = tx.init(params)
    for t in range(steps):
        grads = [p - torch.cos(torch.arange(p.numel()) + 0.7 * t).reshape(p.shape) for p in params]
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    return params


def norm(p):
    return p.double().norm().item()


def start():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, generator=generator, dtype=torch.float64).mul(n) for n in (2, 5)]


def test_every_tensor_keeps_the_norm_that_it_had():
    tx = fo.chain(fo.adam(LR), fo.keep_norm())
    for before, after in zip(start(), stepped(tx, start()), strict=True):
        assert norm(after) == pytest.approx(norm(before), rel=1e-14)
        assert not torch.allclose(before, after, rtol=0.1)


def test_a_radius_is_the_norm_of_all():
    for p in stepped(fo.chain(fo.sgd(LR), fo.keep_norm(2.0)), start()):
        assert norm(p) == pytest.approx(2.0, rel=1e-14)


def test_zero_stays_zero_and_what_would_be_zero_waits():
    tx = fo.keep_norm()
    zero, p = torch.zeros(2, dtype=torch.float64), numbers(3.0, 4.0)
    updates, state = tx.update([numbers(1.0, 1.0), -p], tx.init([zero, p]), [zero, p])
    assert updates[0].tolist() == [0.0, 0.0]
    assert (p + updates[1]).tolist() == [0.0, 0.0]  # no direction to go on in
    updates, _ = tx.update([zero, numbers(0.0, 1.0)], state, [zero, zero])
    torch.testing.assert_close(updates[1], numbers(0.0, 5.0))  # R is remembered


def test_it_has_to_be_the_last_stage():
    with pytest.raises(HyperparameterError, match="`keep_norm` needs the final update"):
        fo.chain(fo.keep_norm(), fo.sgd(0.1))
    with pytest.raises(HyperparameterError, match="`radius` must be positive"):
        fo.keep_norm(0.0)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_with_a_trust_ratio_it_is_the_hyperball_of_heavyball(decay):
    """The function of the package on the direction that Adam gives here; it clamps at 1e-12."""
    utils = importlib.import_module(f"{needed('heavyball').__name__}.utils")
    decayed = fo.chain(fo.scale_by_adam(), fo.add_decayed_weights(decay))
    tx = fo.chain(decayed, fo.scale_by_trust_ratio(), fo.scale_by_learning_rate(LR), fo.keep_norm())
    params, theirs, direction = start(), [p.float() for p in start()], fo.scale_by_adam()
    norms, state = [p.norm() for p in theirs], direction.init(theirs)
    step = getattr(utils._compilable_hyperball_, "__wrapped__", utils._compilable_hyperball_)
    with torch.compiler.set_stance("force_eager"):
        for t in range(60):
            grads = [
                p - torch.cos(torch.arange(p.numel()) + 0.7 * t).reshape(p.shape) for p in theirs
            ]
            us, state = direction.update(grads, state, theirs)
            step(theirs, us, norms, torch.tensor(LR), decay, False, False, grads)
    for ours, other in zip(stepped(tx, params), theirs, strict=True):
        torch.testing.assert_close(ours.float(), other, rtol=0, atol=1e-5)  # of float32


def test_muon_on_a_sphere():
    tx = fo.chain(
        fo.scale_by_muon(ns_dtype=None),
        fo.scale_by_trust_ratio(),
        fo.scale_by_learning_rate(LR),
        fo.keep_norm(),
    )
    for before, after in zip(start(), stepped(tx, start(), 1), strict=True):
        turned = 1 - (before * after).sum() / before.norm() ** 2
        assert 0 < turned <= 1 - (1 - LR**2) ** 0.5 + 1e-12  # the most that such a step can turn
        assert norm(after) == pytest.approx(norm(before), rel=1e-14)
