"""PCGrad: gradients of several losses, without what they take from one another."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.kinds import leaves_like
from .._numerics.random import philox
from ..errors import ArgumentError

_Grads = TypeVar("_Grads")


def pcgrad(grads: Sequence[_Grads], seed: int | None = None, *, mean: bool = False) -> _Grads:
    """Sums the gradients of several losses, each without its part against one of the others.

        both = pcgrad([torch.func.grad(loss)(params) for loss in losses], seed=step)
        updates, state = tx.update(both, state, params)

    Each gradient g_i is projected, one after another, for all other gradients g_j:

        g_i <- g_i - min(0, <g_i, g_j>) / norm(g_j)^2 g_j

    where g_j is as it was given, with products over all tensors; the result is the sum of all g_i.
    Two gradients that do not conflict are added as they are. The projections are computed from the
    products of all pairs, in at least float32.

    A tree of gradients of the same structure, dtypes and shapes as each of `grads`; a parameter
    that a loss does not depend on may have `None` there. It works under `torch.func` and
    `torch.compile`.

    Args:
        grads: The trees of gradients, one for each loss.
        seed: For a random order of the projections, which the paper has: another one in each step.
            `None` is the order of `grads`.
        mean: Return the mean over the losses instead of the sum.

    Raises:
        ArgumentError: If `grads` is not a list or tuple of at least one tree.
        HyperparameterError: If `seed` is not a whole number.
        StructureError: If the trees differ in structure.

    References:
        Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1.
        https://arxiv.org/abs/2001.06782
    """
    if not isinstance(grads, (list, tuple)) or not grads:
        raise ArgumentError(
            "`pcgrad`: `grads` must be a list of trees of gradients, one for each loss, got "
            f"{type(grads).__name__}{' without entries' if grads == [] or grads == () else ''}."
        )
    if seed is not None:
        checks.whole_number("pcgrad", "seed", seed, most=2**63 - 1)
    first, spec = tree.flatten(grads[0])
    lists = [first, *(leaves_like("pcgrad", spec, other) for other in grads[1:])]
    count = len(lists)
    products = [[_dot(a, b) for b in lists[: i + 1]] for i, a in enumerate(lists)]
    gram = torch.stack(
        [torch.stack([products[max(i, j)][min(i, j)] for j in range(count)]) for i in range(count)]
    )
    squares = gram.diagonal()
    none = squares == 0
    identity = torch.eye(count, dtype=gram.dtype, device=gram.device)
    shares = torch.zeros_like(squares)  # of each gradient in the sum
    for i in range(count):
        own = identity[i]  # of each gradient in g_i
        for j in _order(i, count, seed):
            against = (own * gram[j]).sum().clamp(max=0.0)
            part = torch.where(none[j], 0.0, against / torch.where(none[j], 1.0, squares[j]))
            own = own - part * identity[j]
        shares = shares + own
    if mean:
        shares = shares / count
    merged: _Grads = spec.unflatten([_sum(leaves, shares) for leaves in zip(*lists, strict=True)])
    return merged


def _order(i: int, count: int, seed: int | None) -> list[int]:
    """The other gradients, in the order in which one is projected."""
    others = [j for j in range(count) if j != i]
    if seed is None:
        return others
    key = (seed & 0xFFFFFFFF, seed >> 32)
    return sorted(others, key=lambda j: philox((i, j, 0, 0), key)[0])


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Tensor:
    """The product of two gradients, over the tensors that both have."""
    both = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return tree.dot([x for x, _ in both], [y for _, y in both])


def _sum(leaves: Sequence[Any], shares: Tensor) -> Any:
    """The gradients of one parameter, each times its share."""
    known = [i for i, x in enumerate(leaves) if x is not None]
    if not known:
        return None
    total: Any = sum(shares[i].to(leaves[i].device) * leaves[i] for i in known)
    return total.to(leaves[known[0]].dtype)
