"""Random numbers: the published bits, the right distribution, and nothing left to chance."""

import numpy as np
import pytest
import torch
from scipy import stats

from funcopt._numerics import random
from funcopt._numerics.random import Draw, philox

# "philox4x32 10" of the known answers that the authors publish with Random123: counter, key, words.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_bits_are_those_that_were_published(counter, key, answer):
    assert philox(words(counter), words(key)) == words(answer)
    tensors = [tuple(torch.tensor(x) for x in words(text)) for text in (counter, key)]
    assert tuple(map(int, philox(*tensors))) == words(answer)
    vectors = tuple(torch.tensor([0, x, 5]) for x in words(counter))
    assert tuple(int(x[1]) for x in philox(vectors, words(key))) == words(answer)


COUNT = 200_000


def draws(seed=0, step=1, name="w", count=COUNT, dtype=torch.float64):
    whole = torch.zeros(count, dtype=dtype)
    return Draw(name, whole).normal(seed, step, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_numbers_are_normal(dtype):
    x = draws(dtype=dtype).double().numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs((x**power).mean() - moment) < 4 * (variance / COUNT) ** 0.5, power
    assert 4.0 < np.abs(x).max() < 6.0


def test_both_dtypes_see_the_same_bits():
    off = (draws(dtype=torch.float32).double() - draws()).abs()
    assert off.mean() < 1e-6
    assert off.max() < 1e-3  # where the logarithm is of a number near 1, its root keeps half


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"seed": 2**32}, {"step": 2}, {"name": "v"}, {"name": ""}], ids=str
)
def test_other_seeds_steps_and_names_give_other_numbers(other):
    x, y = draws().numpy(), draws(**other).numpy()
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 * COUNT**-0.5
    assert not np.isin(x, y).any()


def test_neighbours_are_independent():
    x = draws().numpy()
    for lag in (1, 2, 4, 1000):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 4 * COUNT**-0.5
    tail = np.abs(x) > 2
    assert stats.chi2_contingency(np.histogram2d(tail[:-1], tail[1:], 2)[0]).pvalue > 1e-3


def test_a_number_depends_on_its_place_alone():
    """Not on how many there are, nor on how they are cut for the cache."""
    assert torch.equal(draws(count=70_000), draws()[:70_000])
    table = torch.zeros(7, 11, dtype=torch.float64)
    assert torch.equal(Draw("w", table).normal(0, 1, table).flatten(), draws(count=77))


def test_places_beyond_32_bits_count(monkeypatch):
    far = torch.tensor([5, 2**32 + 5, 2**33 + 5])
    monkeypatch.setattr(random.shards, "global_indices", lambda tensor, like: far)
    like = torch.zeros(3)
    assert len(set(Draw("w", like).normal(0, 1, like).tolist())) == 3


def test_a_seed_may_be_a_tensor():
    assert torch.equal(draws(seed=torch.tensor(2**40 + 3)), draws(seed=2**40 + 3))
    assert torch.equal(draws(step=torch.tensor(9)), draws(step=9))


def test_no_generator_is_touched():
    before = torch.random.get_rng_state()
    draws(count=10)
    assert torch.equal(before, torch.random.get_rng_state())
