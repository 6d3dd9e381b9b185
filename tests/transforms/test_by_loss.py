"""Polyak's step size and MoMo: what the loss tells about the learning rate."""

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .stepping import numbers


def test_one_step_of_polyak_solves_a_linear_loss():
    """As of |x|, whose lowest value is known."""
    p = numbers(3.0)
    tx = fo.polyak_sgd(max_lr=100.0)
    u, _ = tx.update(p.sign(), tx.init(p), p, value=p.abs().sum())
    assert fo.apply_updates(p, u) == 0.0


def test_polyak_is_bounded_and_stands_still_at_the_bottom():
    p, tx = numbers(3.0), fo.scale_by_polyak(max_lr=0.5)
    assert tx.update(numbers(1.0), tx.init(p), p, value=10.0)[0] == 0.5
    for value in (10.0, 0.0):
        assert tx.update(numbers(0.0), tx.init(p), p, value=value)[0] == 0.0


def test_below_the_lowest_value_only_sps_plus_does_not_ascend():
    p = numbers(1.0)
    for variant, expected in (("sps", -0.25), ("sps+", 0.0)):
        tx = fo.scale_by_polyak(f_min=2.0, variant=variant)
        assert tx.update(numbers(2.0), tx.init(p), p, value=1.0)[0] == 2.0 * expected


def test_without_momentum_momo_is_polyak_and_its_bound_is_lr():
    p, g = numbers(1.0, -2.0), numbers(0.5, 1.0)
    tx, polyak = fo.momo(2.0, 0.0, lower_bound=0.1), fo.polyak_sgd(max_lr=2.0, f_min=0.1)
    for value in (0.7, 50.0):
        ours, _ = tx.update(g, tx.init(p), p, value=value)
        theirs, _ = polyak.update(g, polyak.init(p), p, value=value)
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def test_while_the_loss_is_far_from_its_bound_momo_adam_is_adam():
    p = numbers(1.0, -2.0)
    tx, adam = fo.momo_adam(1e-3), fo.adam(1e-3)
    state, known = tx.init(p), adam.init(p)
    for t in range(20):
        g = numbers(1.0 + t, -3.0)
        ours, state = tx.update(g, state, p, value=1e4)
        theirs, known = adam.update(g, known, p)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_the_lower_bound_is_lowered_where_the_loss_gets_below_it():
    p, tx = numbers(1.0), fo.momo(lower_bound=-5.0, adapt_lower_bound=True)
    state = tx.init(p)
    for _ in range(3):
        _, state = tx.update(numbers(0.1), state, p, value=1.0)
    assert -5.0 < state.memory[0].bound < 1.0


CLASSES = ["PolyakSGD", "MoMo", "MoMoAdam"]


@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_comes_of_the_closure_or_by_name(name):
    def run(how):
        x = torch.nn.Parameter(torch.linspace(-1.0, 2.0, 5, dtype=torch.float64))
        opt = getattr(optim, name)([x], lr=0.1 if name == "MoMoAdam" else 1.0)

        def closure():
            opt.zero_grad()
            loss = (x - 0.3).square().sum()
            loss.backward()
            return loss

        for _ in range(200):
            if how == "closure":
                opt.step(closure)
            else:
                opt.step(value=closure())
        return x.detach()

    assert torch.equal(run("closure"), run("by name"))
    assert (run("closure") - 0.3).abs().max() < 1e-2


@pytest.mark.parametrize("name", CLASSES)
def test_without_the_loss_an_error_says_how_it_is_given(name):
    x = torch.nn.Parameter(torch.ones(2))
    opt = getattr(optim, name)([x])
    x.grad = torch.ones(2)
    with pytest.raises(fo.errors.ExtraArgumentError, match="`value`"):
        opt.step()
    assert torch.equal(x, torch.ones(2))
