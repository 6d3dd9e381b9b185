"""What is stepped: lists of tensors of given shapes, with gradients that anyone can make again."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

Shapes = tuple[tuple[int, ...], ...]


def small_gpt(layers: int = 12, width: int = 384, words: int = 2048, length: int = 1024) -> Shapes:
    """The shapes of a small GPT with tied embeddings: 12 tensors in each layer, and 4 besides."""
    norm = [(width,), (width,)]
    attention = [(3 * width, width), (3 * width,), (width, width), (width,)]
    mlp = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    layer = [*norm, *attention, *norm, *mlp]
    return ((words, width), (length, width), *layers * layer, *norm)


class Problem(NamedTuple):
    """A list of tensors, in float32, on one device."""

    name: str
    shapes: Shapes
    device: str = "cpu"

    @property
    def elements(self) -> int:
        """Of all tensors together."""
        return sum(math.prod(shape) for shape in self.shapes)

    def params(self) -> list[Tensor]:
        """The same on every call, in memory of their own."""
        return [p.clone() for p in drawn(self.shapes, self.device, 0.02, 0)]

    def grads(self, number: int) -> list[Tensor]:
        """The gradients of that number, to be read only."""
        return drawn(self.shapes, self.device, 1.0, 1 + number)


@functools.lru_cache(maxsize=3)
def drawn(shapes: Shapes, device: str, size: float, seed: int) -> list[Tensor]:
    """Normal numbers of that size."""
    generator = torch.Generator().manual_seed(seed)
    return [(size * torch.randn(shape, generator=generator)).to(device) for shape in shapes]


def matrices(shapes: Shapes) -> Shapes:
    """The weights of hidden layers among those of a GPT."""
    return tuple(shape for shape in shapes[2:] if len(shape) == 2)


SHAPES: dict[str, Shapes] = {
    "1 x 20M": ((20_000_000,),),
    "GPT 22M": small_gpt(),  # 148 tensors
    "1,000 x 64": 1_000 * ((64,),),
    "200 x 1,000": 200 * ((1_000,),),
    "GPT 7M, matrices": matrices(small_gpt(layers=4)),  # 16 tensors
    "4 tensors": ((10, 4), (10,), (1, 10), (1,)),  # 61 elements
}
"""The parameters of the table, by name."""


def problem(name: str, device: str = "cpu") -> Problem:
    """The parameters of that name."""
    return Problem(name, SHAPES[name], device)


def smaller(shapes: Shapes, side: int = 32, most: int = 20) -> Shapes:
    """For a quick look: fewer tensors, with shorter sides."""
    return tuple(tuple(min(side, n) for n in shape) for shape in shapes[:most])
