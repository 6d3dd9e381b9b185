"""Numbers in 8 and 4 bits: codes for the entries of a block, and one scale for all of it.

A block is a number of entries that follow one another in a tensor, row by row; the last one may be
shorter. Its scale is the largest magnitude in it; a code is the place, in a book of numbers from -1
to 1, of the one that is nearest to an entry over its scale.

References:
    Dettmers et al., "8-bit Optimizers via Block-wise Quantization", ICLR 2022.
    https://arxiv.org/abs/2110.02861
    Li et al., "Memory Efficient Optimizers with 4-bit States", NeurIPS 2023.
    https://arxiv.org/abs/2309.01507
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .primitive import primitive
from .scalars import is_plain, is_traced

LARGEST_FLOAT8 = 448.0


def _dynamic(bits: int, signed: bool) -> list[float]:
    """Some bits for a power of ten, the others for the digits: the smaller, the fewer of those."""
    found, powers = {0.0, 1.0}, bits - 1
    for i in range(powers):
        count = 2 ** (i if signed else i + 1) + 1
        points = torch.linspace(0.1, 1, count, dtype=torch.float32, device="cpu")
        middle = (points[:-1] + points[1:]) / 2 * 10.0 ** (i - powers + 1)
        found.update(middle.tolist())
        if signed:
            found.update((-middle).tolist())
    return sorted(found)


def _middles(numbers: Sequence[float]) -> list[float]:
    values = torch.tensor(numbers, dtype=torch.float64, device="cpu")
    middles: list[float] = ((values[:-1] + values[1:]) / 2).float().tolist()
    return middles


BOOKS: Mapping[str, Sequence[float]] = {
    "dynamic8": _dynamic(8, signed=True),
    "dynamic8unsigned": _dynamic(8, signed=False),
    "dynamic4": _dynamic(4, signed=True),
    "linear4": [(i + 1) / 16 for i in range(16)],
}
"""The numbers of each book, in order: exact in float32."""

BOUNDARIES: Mapping[str, Sequence[float]] = {name: _middles(x) for name, x in BOOKS.items()}
"""The middles between them, in float32: from one on, the larger number is nearer."""


_kept: dict[tuple[str, bool, torch.device], Tensor] = {}


def _table(name: str, of_boundaries: bool, like: Tensor) -> Tensor:
    """A book, or its boundaries, on the device of a tensor: sent there once."""
    numbers = BOUNDARIES[name] if of_boundaries else BOOKS[name]
    if torch.compiler.is_compiling() or is_traced(like) or not is_plain(like) or like.is_meta:
        return torch.tensor(numbers, dtype=torch.float32, device=like.device)
    key = (name, of_boundaries, like.device)
    if key not in _kept:
        with torch.inference_mode(False):
            _kept[key] = torch.tensor(numbers, dtype=torch.float32, device=like.device)
    return _kept[key]


@primitive
def encoded(x: Tensor, name: str) -> Tensor:
    """The codes, in uint8, of numbers from -1 to 1: the places of the nearest ones in a book."""
    if name == "float8":
        return (x * LARGEST_FLOAT8).to(torch.float8_e4m3fn).view(torch.uint8)
    return torch.bucketize(x.contiguous(), _table(name, True, x), right=True).to(torch.uint8)


@primitive
def decoded(codes: Tensor, name: str) -> Tensor:
    """The numbers, in float32, that stand at these places in a book."""
    if name == "float8":
        return codes.view(torch.float8_e4m3fn).to(torch.float32) / LARGEST_FLOAT8
    return _table(name, False, codes)[codes.to(torch.int64)]


@primitive
def block_amax(x: Tensor, size: int) -> Tensor:
    """The largest magnitude of the block of each entry, in the shape of `x`."""
    if not x.numel():
        return x.abs()
    flat = x.abs().flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % size)).reshape(-1, size)
    largest = blocks.amax(1, keepdim=True).expand(blocks.shape)
    return largest.flatten()[: x.numel()].reshape(x.shape)


# Between what is stored for each entry and for a block. Where kernels are traced, to read and write
# does it: there both are the same.


def for_blocks(x: Tensor, size: int) -> Tensor:
    """One number for each block, of a tensor that has the same for all entries of one."""
    if getattr(type(x), "stands_in", False):
        return x
    return x.flatten()[::size].clone(memory_format=torch.contiguous_format)


def for_entries(scale: Tensor, size: int, like: Tensor) -> Tensor:
    """The inverse, in the shape of `like`."""
    if getattr(type(scale), "stands_in", False):
        return scale
    return scale.unsqueeze(1).expand(-1, size).flatten()[: like.numel()].view_as(like)


def packed(codes: Tensor) -> Tensor:
    """Codes of 4 bits, two in one number of uint8: the first in its upper half."""
    if getattr(type(codes), "stands_in", False):
        return codes
    flat = codes.flatten()
    pairs = torch.nn.functional.pad(flat, (0, flat.numel() % 2)).reshape(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]


def unpacked(codes: Tensor, like: Tensor) -> Tensor:
    """The inverse, in the shape of `like`."""
    if getattr(type(codes), "stands_in", False):
        return codes
    pairs = torch.stack([codes >> 4, codes & 15], 1)
    return pairs.flatten()[: like.numel()].view_as(like)


def blocks_of(entries: int, size: int) -> int:
    """How many blocks there are."""
    return math.ceil(entries / size)
