"""All tensors of a pass as one long vector, for mathematics that cannot be said of one tensor."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics import shards
from .._numerics.scalars import is_concrete, moved, number
from .stage import Members


class Vector(NamedTuple):
    """One long vector, in a few flat blocks: one for each dtype, device and set of ranks."""

    blocks: tuple[Tensor, ...]

    def __add__(self, other: "Vector") -> "Vector":  # type: ignore[override]
        return Vector(tuple(a + b for a, b in zip(self.blocks, other.blocks, strict=True)))

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(tuple(a - b for a, b in zip(self.blocks, other.blocks, strict=True)))

    def __mul__(self, factor: Any) -> "Vector":
        return Vector(tuple(_times(a, factor) for a in self.blocks))

    def plus(self, other: "Vector", factor: Any) -> "Vector":
        """``self + factor * other``; in one pass where Python may read the factor."""
        if not is_concrete(factor):
            scaled: Vector = other * factor
            return self + scaled
        alpha, pairs = number(factor), zip(self.blocks, other.blocks, strict=True)
        return Vector(tuple(torch.add(a, b, alpha=alpha) for a, b in pairs))

    def __neg__(self) -> "Vector":
        return Vector(tuple(-a for a in self.blocks))


class Space:
    """How the tensors of a pass become a vector and back, and what is summed over all of it.

    Sums span all parameter groups and all ranks. They come out in the widest dtype, on `device`:
    where that is the CPU, Python may read them.
    """

    def __init__(self, tensors: Sequence[Tensor], members: Members, device: torch.device) -> None:
        self._shapes = [x.shape for x in tensors]
        self.device = device
        self.dtype = torch.float32
        self._ranks = members.ranks
        kinds: dict[Any, list[int]] = {}
        spans = members.spans
        for i, x in enumerate(tensors):
            kinds.setdefault((x.dtype, x.device, *spans[i : i + 1]), []).append(i)
            self.dtype = torch.promote_types(self.dtype, x.dtype)
        self._kinds = list(kinds.values())
        self._spans = [spans[at[0]] for at in self._kinds] if spans else ()
        self._here = len(kinds) == 1 and len(tensors) > 0 and tensors[0].device == device
        if members.ranks.crossed(self._spans):  # all ranks have exactly the same totals
            self._here, self.dtype = False, shards.on_the_way(torch.zeros((), device=device)).dtype

    def scalar(self, x: Any) -> Tensor:
        """A number as this space has them."""
        if isinstance(x, Tensor):
            return moved(x, self.device).to(self.dtype)
        return torch.tensor(x, dtype=self.dtype, device=self.device)

    def vector(self, xs: Sequence[Tensor]) -> Vector:
        """The vector of one tensor for each parameter."""
        return Vector(tuple(torch.cat([xs[i].reshape(-1) for i in kind]) for kind in self._kinds))

    def tensors(self, v: Vector) -> list[Tensor]:
        """The inverse of `vector`."""
        return [x[0] for x in self.stacks([v])]

    def vectors(self, xs: Sequence[Tensor]) -> tuple[Vector, ...]:
        """The vectors of a stack of as many tensors for each parameter."""
        return tuple(map(self.vector, zip(*(x.unbind() for x in xs), strict=True)))

    def stacks(self, vs: Sequence[Vector]) -> list[Tensor]:
        """The inverse of `vectors`."""
        out: list[Any] = [None] * len(self._shapes)
        for kind, rows in zip(self._kinds, zip(*(v.blocks for v in vs), strict=True), strict=True):
            parts = torch.split(torch.stack(rows), [self._shapes[i].numel() for i in kind], 1)
            for i, part in zip(kind, parts, strict=True):
                part = part if len(kind) == 1 else part.clone(memory_format=torch.contiguous_format)
                out[i] = part.reshape(len(vs), *self._shapes[i])
        return out

    def dot(self, a: Vector, b: Vector) -> Tensor:
        """The inner product."""
        pairs = zip(a.blocks, b.blocks, strict=True)
        return self._over("sum", [torch.dot(x, y) for x, y in pairs])

    def sum_abs(self, a: Vector) -> Tensor:
        """The sum of the absolute values."""
        return self._over("sum", [x.abs().sum() for x in a.blocks])

    def max_abs(self, a: Vector) -> Tensor:
        """The greatest absolute value; 0 if there is none."""
        most = self._over("max", [x.abs().amax() if x.numel() else x.sum() for x in a.blocks])
        return most if a.blocks else most.clamp(min=0.0)

    def _over(self, how: str, parts: Sequence[Tensor]) -> Tensor:
        if self._here:
            return parts[0]
        rows = [self.scalar(part) for part in parts]
        table = torch.stack(rows) if rows else self.scalar(0.0).new_empty(0)
        return self._ranks.total(how, table, self._spans).to(self.dtype)


def _times(x: Tensor, factor: Any) -> Tensor:
    # In its dtype: under vmap a number that is batched would widen the product.
    return x * (moved(factor, x.device).to(x.dtype) if isinstance(factor, Tensor) else factor)
