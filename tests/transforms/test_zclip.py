"""`clip_by_zscore`: norms that are outliers are clipped, and do not count as such."""

import math

import pytest
import torch

import funcopt as fo

from .stepping import feed, numbers


def official(norms, decay, threshold, most, eps, warmup, option):
    """`ZClip` of bluorion-com/ZClip, `mode="zscore"`: the norm after clipping, step by step."""
    buffer, mean, var = [], None, None
    for norm in norms:
        if mean is None:
            buffer.append(norm)
            if len(buffer) >= warmup:
                mean = sum(buffer) / len(buffer)
                var = sum((x - mean) ** 2 for x in buffer) / len(buffer)
            coefficient = 1.0 if most is None else min(1.0, most / (norm + 1e-6))
            yield norm * coefficient
            continue
        std, clip = var**0.5, None
        z = (norm - mean) / (std + eps)
        if z > threshold:
            eta = z / threshold
            clip = mean if option == "mean" else mean + (threshold * std) / eta
        kept = norm if clip is None else clip
        effective = kept if most is None else min(kept, most)
        yield norm * (effective / (norm + 1e-6) if norm > effective else 1.0)
        mean = decay * mean + (1 - decay) * kept
        var = decay * var + (1 - decay) * (kept - mean) ** 2


def norms(count):
    """With a spike now and then."""
    torch.manual_seed(0)
    usual = 0.5 + 0.1 * torch.rand(count, dtype=torch.float64)
    usual[::17] *= 8.0
    return usual.tolist()


@pytest.mark.parametrize("option", ["adaptive", "mean"])
@pytest.mark.parametrize("most", [None, 0.58])
@pytest.mark.parametrize("decay", [0.97, 0.8])
def test_norms_are_those_of_the_official_code(option, most, decay):
    options = (decay, 2.5, most, 1e-6, 25, option)
    tx = fo.clip_by_zscore(2.5, decay, most, option=option)
    history = [{"a": numbers(0.6 * n), "b": numbers(0.0, -0.8 * n)} for n in norms(200)]
    updates, _ = feed(tx, history)
    clipped = 0
    each = zip(updates, official(norms(200), *options), norms(200), strict=True)
    for u, expected, before in each:
        assert fo.tree.norm(u).item() == pytest.approx(expected, rel=1e-12)
        clipped += expected < 0.99 * before
    assert clipped > 8


def test_a_larger_outlier_is_clipped_more():
    warm = [numbers(n) for n in (0.9, 1.1) * 3]
    found = []
    for size in (2.0, 20.0, 200.0):
        updates, _ = feed(fo.clip_by_zscore(max_norm=None, warmup=6), [*warm, numbers(size)])
        found.append(updates[-1].item())
    assert 1.25 > found[0] > found[1] > found[2] > 1.0


def test_a_norm_that_is_not_finite_is_not_remembered():
    tx = fo.clip_by_zscore(warmup=2)
    history = [numbers(0.9), numbers(1.1)]
    _, state = feed(tx, history)
    _, after = feed(tx, [*history, numbers(math.inf)])
    _, again = feed(tx, [*history, numbers(math.nan)])
    assert after.memory == again.memory == state.memory


def test_directions_stay():
    g = numbers(30.0, -40.0)
    (u,), _ = feed(fo.clip_by_zscore(), [g])
    torch.testing.assert_close(u / u.norm(), g / g.norm())
