"""`scale_by_ademamix` and `ademamix`: a slow EMA beside Adam's, and its warm-ups."""

import math

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .stepping import feed, numbers


def by_the_authors(
    p, gradient, steps, lr, betas, alpha, beta3_warmup, alpha_warmup, weight_decay, added
):
    """`AdEMAMix` of apple/ml-ademamix, whose half-life has 1e-8 `added` to decay rates."""

    def half_life(b):
        return math.log(0.5) / math.log(b + added) - 1

    b1, b2, b3_end = betas
    fast, slow, square = torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(p, t)
        a = t / alpha_warmup
        now = alpha * a if t < alpha_warmup else alpha
        a, b3 = t / beta3_warmup, b3_end
        if t < beta3_warmup:
            b3 = 0.5 ** (1 / ((1 - a) * half_life(b1) + a * half_life(b3_end) + 1))
        fast = b1 * fast + (1 - b1) * g
        slow = b3 * slow + (1 - b3) * g
        square = b2 * square + (1 - b2) * g * g
        u = fast / (1 - b1**t) + now * slow
        u = u / (square.sqrt() / (1 - b2**t) ** 0.5 + 1e-8)
        p = p - lr * (u + weight_decay * p)
    return p


@pytest.mark.parametrize("warmups", [(60, 90), (1, 1), (2, 200)])
@pytest.mark.parametrize(("added", "tolerance"), [(0.0, 1e-12), (1e-8, 1e-6)])
def test_warm_ups_are_those_of_the_authors(warmups, added, tolerance):
    options = {
        "lr": 0.01,
        "betas": (0.9, 0.99, 0.999),
        "alpha": 3.0,
        "weight_decay": 0.1,
        "beta3_warmup": warmups[0],
        "alpha_warmup": warmups[1],
    }

    def gradient(p, t):
        return torch.sin(3 * p + t)

    begin = numbers(-1.0, 0.3, 0.0, 2.0)
    expected = by_the_authors(begin, gradient, 150, **options, added=added)
    p = torch.nn.Parameter(begin.clone())
    opt = optim.AdEMAMix([p], **options)
    for t in range(1, 151):
        p.grad = gradient(p.detach(), t)
        opt.step()
    assert (p - expected).abs().max() <= tolerance  # 1e-8 of 1 - 0.999 is a share of 1e-5


def test_without_the_slow_average_it_is_adam():
    history = [numbers(0.3, -2.0), numbers(1.0, 0.5), numbers(0.0, 0.1)]
    ours, _ = feed(fo.scale_by_ademamix(alpha=0.0), history)
    adam, _ = feed(fo.scale_by_adam(), history)
    torch.testing.assert_close(ours, adam, rtol=1e-14, atol=0)


def test_an_old_gradient_is_not_forgotten():
    """Ten fast half-lives after it, the slow EMA still has nearly all of it."""
    history = [numbers(1.0)] + [numbers(0.0)] * 70
    _, state = feed(fo.scale_by_ademamix(), history)
    assert state.slots.exp_avg_fast < 1e-3 * 0.1
    torch.testing.assert_close(state.slots.exp_avg_slow, numbers(1e-4 * 0.9999**70))


def test_a_warm_up_needs_a_decay_rate_that_has_a_half_life():
    with pytest.raises(fo.errors.HyperparameterError, match=r"half_life_schedule`: `betas\[0\]`"):
        fo.ademamix(betas=(0.0, 0.999, 0.9999), beta3_warmup=100)
    with pytest.raises(fo.errors.HyperparameterError, match=r"ademamix.*alpha_warmup"):
        fo.ademamix(alpha_warmup=0)
