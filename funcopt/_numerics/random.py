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

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from . import shards
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


class Draw:
    """The random numbers of one tensor."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self._name = name
        self._tensor = tensor  # as it was given: whole, or this rank's part

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
