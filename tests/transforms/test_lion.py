"""`scale_by_lion`: the mean looks ahead by one share, and remembers with another."""

import inspect

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .stepping import numbers


def by_lion_pytorch(p, gradient, steps, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    """What `lion_pytorch.Lion` does, with its defaults: decay first, then the sign."""
    exp_avg = torch.zeros_like(p)
    for t in range(steps):
        g = gradient(p, t)
        p = p * (1 - lr * weight_decay)
        p = p - lr * (betas[0] * exp_avg + (1 - betas[0]) * g).sign()
        exp_avg = betas[1] * exp_avg + (1 - betas[1]) * g
    return p


def gradient(p, t):
    return torch.sin(3 * p + t)


@pytest.mark.parametrize("options", [{}, {"lr": 0.01, "weight_decay": 0.5, "betas": (0.8, 0.95)}])
def test_steps_and_defaults_are_those_of_lion_pytorch(options):
    begin = numbers(-1.0, 0.3, 0.0, 2.0)
    expected = by_lion_pytorch(begin, gradient, 200, **options)
    tx, params = fo.lion(**options), begin
    state = tx.init(params)
    for t in range(200):
        updates, state = tx.update(gradient(params, t), state, params)
        params = fo.apply_updates(params, updates)
    p = torch.nn.Parameter(begin.clone())
    opt = optim.Lion([p], **options)
    for t in range(200):
        p.grad = gradient(p.detach(), t)
        opt.step()
    assert (params - expected).abs().max() <= 1e-12
    assert (p - expected).abs().max() <= 1e-12


def test_nothing_decays_unless_it_is_told_to():
    for make in (fo.lion, optim.Lion):
        assert inspect.signature(make).parameters["weight_decay"].default == 0.0


def test_the_newest_gradient_counts_more_now_than_later():
    tx = fo.scale_by_lion((0.5, 0.9))
    state = tx.init(torch.zeros(1))
    u, state = tx.update(torch.tensor([1.0]), state)
    assert u == 1.0
    assert torch.allclose(state.slots.exp_avg, torch.tensor([0.1]))
    u, state = tx.update(torch.tensor([-0.2]), state)  # 0.5 * 0.1 - 0.5 * 0.2 < 0
    assert u == -1.0
    assert torch.allclose(state.slots.exp_avg, torch.tensor([0.07]))
