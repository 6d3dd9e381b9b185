"""Random numbers that depend on nothing but where they are wanted: pure, and the same everywhere.

Philox makes 128 bits of 192: of a key, which comes of the seed and the name of a tensor, and of a
counter, which comes of the step and the place of an entry. It is made of operations on integer
tensors, so it runs under `torch.func` and `torch.compile`, gives each part of a tensor that lies on
several ranks the numbers of the whole, and has no state but the clock. Devices agree in the bits,
and in the numbers but for the rounding of logarithm and cosine.

It is no generator for cryptography.

References:
    Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    https://doi.org/10.1145/2063384.2063405
"""

import functools
import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from . import shards
from .primitive import primitive
from .scalars import integer

Word = Any
"""32 bits: a number, or an int64 tensor of such."""

Counter = tuple[Word, Word, Word, Word]

MASK = 0xFFFFFFFF


def philox(counter: Counter, key: tuple[Word, Word]) -> Counter:
    """Philox4x32-10: four words, for the counter and the key."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        high, low = _product(0xD2511F53, a)
        other_high, other_low = _product(0xCD9E8D57, c)
        a, b, c, d = other_high ^ b ^ k, other_low, high ^ d ^ m, low
        k, m = (k + 0x9E3779B9) & MASK, (m + 0xBB67AE85) & MASK
    return a, b, c, d


def _product(a: int, b: Word) -> tuple[Word, Word]:
    """The high and the low word of ``a * b``.

    As ``(a - 2**32) * b + 2**32 * b``: for factors above 2**31, 63 bits and a sign are enough so.
    """
    rest = (a - 2**32) * b
    return (rest >> 32) + b, rest & MASK


def _words(x: Any) -> tuple[Word, Word]:
    """The low and the high word of an integer."""
    return x & MASK, (x >> 32) & MASK


def _counter_of(name: str) -> Counter:
    if not torch.compiler.is_compiling():
        return _digest(name)
    from . import dynamo

    words: Counter = dynamo.constant(_digest, name)
    return words


def _digest(name: str) -> Counter:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    a, b, c, d = (int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return a, b, c, d


@functools.cache
def bits_key(name: str, seed: int) -> tuple[int, int]:
    """The key of the random bits of a tensor."""
    low, high = philox(_digest(name), _words(seed))[:2]
    return low, high


GROUP, LANES = 128, 16
"""So many entries share so many blocks of Philox: 16 of their bits are for each. The first entries
of a group have the lowest bits of its blocks, one after another, so that vectors are written."""


@primitive
def word(low: Any, high: Any) -> Word:
    """32 bits, of two numbers below 2^16."""
    return integer(low) | (integer(high) << 16)


@primitive
def mixed(a: Word, b: Word) -> Word:
    """The exclusive or of two words."""
    return a ^ b


@primitive
def bits16(like: Tensor, key: Word, other: Word, begin: Word) -> Tensor:
    """16 random bits for each entry of `like`, as whole numbers.

    Args:
        like: What has as many entries.
        key: A word of the key.
        other: The other one.
        begin: How many groups of entries come before the first one.
    """
    groups = torch.arange(-(-like.numel() // GROUP), device=like.device) + begin
    if torch.compiler.is_compiling() or len(groups) <= 2**10:
        found = _of_groups(groups, (key, other))
    else:  # a part at a time stays in the cache
        found = torch.cat([_of_groups(part, (key, other)) for part in groups.split(2**10)])
    return found.flatten()[: like.numel()].reshape(like.shape)


def _of_groups(groups: Tensor, key: tuple[Word, Word]) -> Tensor:
    """The bits of all entries of groups."""
    blocks = groups.unsqueeze(1) * LANES + torch.arange(LANES, device=groups.device)
    return _halves(blocks, key).transpose(1, 2)


def _halves(blocks: Tensor, key: tuple[Word, Word]) -> Tensor:
    """The bits of blocks, by 16, along a new last dimension."""
    zero = torch.zeros_like(blocks)
    words = torch.stack([x + zero for x in philox((*_words(blocks), zero, zero), key)], -1)
    return torch.stack([words & 0xFFFF, words >> 16], -1).flatten(-2)


class Draw:
    """The random numbers of one tensor."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self._name = name
        self._tensor = tensor  # as it was given: whole, or this rank's part

    def noise(self, seed: int, low: Any, high: Any, like: Tensor) -> Tensor:
        """16 random bits for each entry of `like`, as whole numbers in [0, 2^16).

        Args:
            seed: A whole number.
            low: The lower 16 bits of the step, a number or a 0-d tensor: each step has other bits.
            high: The 16 bits above them.
            like: The tensor or its gradient, as a rule sees it.
        """
        key, other = bits_key(self._name, seed)
        other = mixed(other, word(low, high))
        if not shards.is_sharded(self._tensor):
            return bits16(like, key, other, 0)
        index = shards.global_indices(self._tensor, like)
        blocks = index // GROUP * LANES + index % LANES
        places = index % GROUP // LANES
        return _halves(blocks, (key, other)).gather(-1, places.unsqueeze(-1)).squeeze(-1)

    def normal(self, seed: Any, step: Any, like: Tensor) -> Tensor:
        """Independent numbers of mean 0 and variance 1, one for each entry of `like`.

        Each entry has a block of bits of its own, which Box and Muller's formula turns into one
        number; float32 and float64 see the same bits, and differ by rounding.

        Args:
            seed: A whole number, or a 0-d tensor.
            step: Another; for each one there are other numbers.
            like: The tensor or its gradient, as a rule sees it.
        """
        seed, step = integer(seed), integer(step)
        key = philox(_counter_of(self._name), _words(seed))[:2]
        index = shards.global_indices(self._tensor, like)
        if torch.compiler.is_compiling():
            return _normal(key, step, index, like.dtype)
        # A part at a time stays in the cache, where the many integers of a large tensor would not.
        chunks = index.numel() // 2**15 + 1
        parts = [_normal(key, step, part, like.dtype) for part in index.flatten().chunk(chunks)]
        return torch.cat(parts).reshape(like.shape)


def _normal(key: tuple[Word, Word], step: Any, index: Tensor, dtype: torch.dtype) -> Tensor:
    words = philox((*_words(index), *_words(step)), key)
    radius = (-2.0 * _uniform(words[0], words[1], dtype).log()).sqrt()
    return radius * torch.cos(2.0 * math.pi * _uniform(words[2], words[3], dtype))


def _uniform(high: Tensor, low: Tensor, dtype: torch.dtype) -> Tensor:
    """Of two words, a number in (0, 1]."""
    fraction = (low.to(dtype) + 0.5) * 2.0**-32
    return (high.to(dtype) + fraction) * 2.0**-32
