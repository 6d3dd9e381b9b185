"""`conclude` for tensors that are measured one by one: called once for all, under `vmap`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import is_mapped

MIN_BATCH = 4
"""From so many tensors on, one call under `vmap` is faster than a call for each."""

STATIC_TYPES = (str, bool, torch.dtype, torch.device, type(None))

Conclude = Callable[..., Mapping[str, Any]]
"""The scalars, by name, that a rule concludes from the measures of one tensor: 0-d tensors."""


def conclude_per_tensor(
    conclude: Conclude, columns: Sequence[Tensor], *, closed_over: Any
) -> tuple[Sequence[Mapping[str, Any]], frozenset[str]]:
    """The scalars of each tensor, and the names of those that may differ between tensors.

    Each of the `columns` has an entry for every tensor. `closed_over` is what `conclude` reads
    other than its arguments.
    """
    batched = len(columns[0]) >= MIN_BATCH and not _is_transformed(columns)
    if batched and _keeps_dtypes(closed_over, columns):
        try:
            return _vmapped(conclude, columns)
        except (RuntimeError, ValueError):
            pass  # control flow that depends on values: one call for each tensor
    each = [conclude(*total) for total in zip(*columns, strict=True)]
    names = frozenset().union(*each)
    return each, frozenset(name for name in names if not _is_static(name, each))


def _vmapped(
    conclude: Conclude, columns: Sequence[Tensor]
) -> tuple[Sequence[Mapping[str, Any]], frozenset[str]]:
    scalars: dict[str, tuple[list[Any], tree.Spec[Any]]] = {}

    def one(*total: Tensor) -> list[Tensor]:
        scalars.update((name, tree.flatten(value)) for name, value in conclude(*total).items())
        leaves = [x for leaves, _ in scalars.values() for x in leaves]
        if not all(isinstance(x, (Tensor, *STATIC_TYPES, int, float)) for x in leaves):
            raise ValueError("a tensor may be hidden in one of these")
        return list(filter(torch.is_tensor, leaves))

    found = iter(torch.func.vmap(one)(*columns))
    out: list[dict[str, Any]] = [{} for _ in columns[0]]
    for name, (leaves, spec) in scalars.items():
        each = [next(found).unbind() if torch.is_tensor(x) else None for x in leaves]
        for i, more in enumerate(out):
            own = [x if y is None else y[i] for x, y in zip(leaves, each, strict=True)]
            more[name] = spec.unflatten(own)
    varying = {name for name, (leaves, _) in scalars.items() if any(map(torch.is_tensor, leaves))}
    return out, frozenset(varying)


def _is_transformed(tensors: Sequence[Tensor]) -> bool:
    """Whether a compiler, `torch.func` or autograd follows the operations."""
    return torch.compiler.is_compiling() or is_mapped() or any(x.requires_grad for x in tensors)


def _keeps_dtypes(closed_over: Any, columns: Sequence[Tensor]) -> bool:
    """Whether no other tensor could promote the measures to a wider dtype."""
    dtypes = {x.dtype for x in columns}
    others = [x for x in tree.leaves(closed_over) if isinstance(x, Tensor)]
    return all(x.dtype in dtypes or not x.is_floating_point() for x in others)


def _is_static(name: str, each: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is no number, and the same for each tensor."""
    first = each[0].get(name)
    return isinstance(first, STATIC_TYPES) and all(more.get(name) == first for more in each)
