"""Functions for preconditioners with a matrix for every dimension of a tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._numerics.scalars import mix, widen

Factors = tuple[Any, ...]
"""For every dimension of size n a matrix of shape (n, n), or ``()`` where it has none."""


def viewed(shape: Sequence[int], merge: bool, most: int) -> tuple[int, ...]:
    """The shape that is preconditioned.

    It is `shape`; with `merge`, neighboring dimensions are merged while their product is at most
    `most`.
    """
    if not merge or len(shape) < 2:
        return tuple(shape)
    sizes, size = [], 1
    for n in shape:
        if size * n <= most:
            size *= n
        elif size > 1:
            sizes.append(size)
            size = n
        else:
            sizes.append(n)
    return (*sizes, size) if size > 1 or not sizes else tuple(sizes)


def squares(shape: Sequence[int], most: int, vectors: bool, like: Tensor, fill: float) -> Factors:
    """``fill I`` for all dimensions that have a matrix, in at least float32."""
    dtype = widen(like.dtype)
    if len(shape) < 2 and not vectors:
        return tuple(() for _ in shape)
    return tuple(
        fill * torch.eye(n, dtype=dtype, device=like.device) if 0 < n <= most else () for n in shape
    )


def grown(factors: Factors, x: Tensor, weight: Any) -> Factors:
    """Each factor, with X X^T mixed in, where X is `x` as a matrix whose rows are its dimension.

    Without a weight, it is added.
    """
    out = []
    for i, factor in enumerate(factors):
        if isinstance(factor, Tensor):
            others = [j for j in range(x.dim()) if j != i]
            outer = torch.tensordot(x, x, dims=(others, others))  # pyright: ignore[reportArgumentType]
            factor = factor + outer if weight is None else mix(factor, outer, weight)
        out.append(factor)
    return tuple(out)


def grown_by_kl(factors: Factors, bases: Factors, x: Tensor, weight: Any, eps: Any) -> Factors:
    """Each factor of a matrix, with X S^-1 X^T / n mixed in, where S is the other one, of size n.

    In the basis of S, and with eigenvalues of at least `eps`. Where there are not two factors, they
    are grown as without it.
    """
    if x.dim() != 2 or not all(isinstance(factor, Tensor) for factor in factors):
        return grown(factors, x, weight)
    out = []
    for factor, other, basis, y in zip(factors, factors[::-1], bases[::-1], (x, x.mT), strict=True):
        values = (basis * (other @ basis)).sum(-2).clamp(min=eps)
        turned = y @ basis
        out.append(mix(factor, (turned / (y.shape[1] * values)) @ turned.mT, weight))
    return tuple(out)


def along(x: Tensor, factors: Factors, *, back: bool = False) -> Tensor:
    """`x`, with every dimension multiplied by the transpose of its matrix; by itself if `back`."""
    for factor in factors:
        if isinstance(factor, Tensor):
            x = torch.tensordot(x, factor, dims=([0], [1 if back else 0]))  # pyright: ignore[reportArgumentType]
        else:
            x = x.movedim(0, -1)
    return x.contiguous()  # so that the state keeps its strides, which are guarded
