"""Calls of functions of torch, and the inputs that they begin with: the values of a graph."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics.blockwise import for_blocks, for_entries, packed, unpacked


class Ref(NamedTuple):
    """A reference to a value of a graph, as an argument."""

    at: int


class Input(NamedTuple):
    """A tensor that is passed in: parameter, gradient or slot, by its role."""

    role: int
    dtype: torch.dtype
    per: int = 1  # how many entries of the parameter share one of its own

    def for_entries(self, x: Tensor, like: Tensor) -> Tensor:
        """Such a tensor, with a number for each entry of `like`."""
        if self.per == 1:
            return x
        return unpacked(x, like) if self.per == 2 else for_entries(x, self.per, like)

    def shared(self, x: Tensor) -> Tensor:
        """The inverse."""
        if self.per == 1:
            return x
        return packed(x) if self.per == 2 else for_blocks(x, self.per)

    def begin_of(self, stored: Tensor, made: Tensor) -> Tensor:
        """Where in a tensor that is written the numbers made stand: other ranks may have more."""
        return stored if self.per == 1 else stored[: len(made)]


class ScalarInput(NamedTuple):
    """A scalar that is passed in, by its position in the row of scalars."""

    position: int


class NumberInput(NamedTuple):
    """A number of Python that is passed in; for torch, any other of its type is the same."""

    at: int
    meta: Any  # 1 or 1.0


class Call(NamedTuple):
    """A function of torch with its arguments, in which a `Ref` stands for a tensor."""

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]

    @property
    def refs(self) -> list[Ref]:
        """The values that it needs."""
        return [x for x in flatten_args((self.args, dict(self.kwargs))) if isinstance(x, Ref)]


def op_name(func: Any) -> str:
    """The name of a function of torch."""
    return getattr(func, "__name__", repr(func))


def flatten_args(x: Any) -> list[Any]:
    """The leaves of nested arguments."""
    if isinstance(x, dict):
        return [y for v in x.values() for y in flatten_args(v)]
    if isinstance(x, (tuple, list)) and not isinstance(x, (Ref, NumberInput)):
        return [y for v in x for y in flatten_args(v)]
    return [x]
