"""Functions for preconditioners with a matrix for every dimension of a tensor."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._numerics.products import symmetric
from .._numerics.scalars import mix, widen

Factors = tuple[Any, ...]
"""For every dimension of size n a matrix of shape (n, n), or ``()`` where it has none.

Those of a tensor that is cut into blocks are those of each block, one after another.
"""


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


def merge_limit(most: int, block_size: int | None) -> int:
    """The largest product of merged dimensions: with blocks, one that is not cut again."""
    return most if block_size is None else min(most, block_size)


def by_blocks(
    update: Callable[[Tensor, Any], tuple[Tensor, Any]],
    g: Tensor,
    slots: Any,
    shape: Sequence[int],
    block_size: int | None,
) -> tuple[Tensor, Any]:
    """`update` of each block of `g` and of its slots, and what they are together.

    Args:
        update: The new update and the new slots of a block, of the gradient and the slots.
        g: The gradient.
        slots: A named tuple: of tensors like `g`, which are cut as it is, and of `Factors`.
        shape: That of `g` as it is cut.
        block_size: The largest dimension of a block; `None` for one block.
    """
    gs = _cut(g.reshape(shape), block_size)
    columns = [_of_blocks(own, shape, block_size, len(gs)) for own in slots]
    rows = zip(gs, *columns, strict=True)
    us, made = zip(*(update(x, type(slots)(*own)) for x, *own in rows), strict=True)
    new = (_together(own, g.shape, shape, block_size) for own in zip(*made, strict=True))
    return _together(us, g.shape, shape, block_size), type(slots)(*new)


def _cut(x: Tensor, block_size: int | None) -> list[Tensor]:
    """Blocks of at most this size in every dimension, the last one of each as large as is left."""
    if block_size is None:
        return [x]
    blocks = [x]
    for dim in range(x.dim()):
        blocks = [part for block in blocks for part in torch.split(block, block_size, dim)]
    return blocks


def _of_blocks(own: Any, shape: Sequence[int], block_size: int | None, count: int) -> list[Any]:
    """An entry of the slots, for each block."""
    if isinstance(own, Tensor):
        return _cut(own.reshape(shape), block_size)
    dims = len(shape)
    return [own[i * dims : (i + 1) * dims] for i in range(count)]


def _together(
    parts: Sequence[Any], shape: Sequence[int], cut: Sequence[int], block_size: int | None
) -> Any:
    """A tensor of `shape`, of blocks of one whose shape was `cut`; or the factors of all blocks."""
    if not isinstance(parts[0], Tensor):
        return tuple(itertools.chain.from_iterable(parts))
    blocks = list(parts)
    for dim in reversed(range(len(cut))):
        n = 1 if block_size is None else max(1, -(-cut[dim] // block_size))
        rows = [blocks[i : i + n] for i in range(0, len(blocks), n)]
        blocks = [torch.cat(row, dim) if n > 1 else row[0] for row in rows]
    return blocks[0].reshape(shape)


def squares(
    shape: Sequence[int],
    most: int,
    vectors: bool,
    like: Tensor,
    fill: float,
    block_size: int | None = None,
) -> Factors:
    """``fill I`` for all dimensions that have a matrix, of every block, in at least float32."""
    dtype = widen(like.dtype)
    if len(shape) < 2 and not vectors:
        most = 0
    sizes = [[n] if block_size is None else _parts(n, block_size) for n in shape]
    every = [n for block in itertools.product(*sizes) for n in block]
    made = {
        n: fill * torch.eye(n, dtype=dtype, device=like.device) for n in set(every) if 0 < n <= most
    }
    return tuple(made[n].clone() if n in made else () for n in every)


def _parts(n: int, block_size: int) -> list[int]:
    """The sizes of the parts of a dimension of size n."""
    return [min(block_size, n - i) for i in range(0, max(n, 1), block_size)]


def grown(factors: Factors, x: Tensor, weight: Any) -> Factors:
    """Each factor, with X X^T mixed in, where X is `x` as a matrix whose rows are its dimension.

    Without a weight, it is added.
    """
    out = []
    for i, factor in enumerate(factors):
        if isinstance(factor, Tensor):
            rows = rows_along(x, i)
            outer = symmetric(rows, rows.mT)
            factor = factor + outer if weight is None else mix(factor, outer, weight)
        out.append(factor)
    return tuple(out)


def rows_along(x: Tensor, i: int) -> Tensor:
    """`x` as a matrix whose rows are dimension `i`."""
    return x.movedim(i, 0).reshape(x.shape[i], x.numel() // max(1, x.shape[i]))


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
        outer = symmetric(turned / (y.shape[1] * values), turned.mT)
        out.append(mix(factor, outer, weight))
    return tuple(out)


def along(x: Tensor, factors: Factors, *, back: bool = False) -> Tensor:
    """`x`, with every dimension multiplied by the transpose of its matrix; by itself if `back`."""
    for factor in factors:
        if isinstance(factor, Tensor):
            x = torch.tensordot(x, factor, dims=([0], [1 if back else 0]))  # pyright: ignore[reportArgumentType]
        else:
            x = x.movedim(0, -1)
    return x.contiguous()  # so that the state keeps its strides, which are guarded
