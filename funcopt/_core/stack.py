"""Many trees as one, and back: what `torch.func.vmap` maps over."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..errors import StructureError
from ..typing import Tree
from .kinds import check_iterable, leaves_like


def stack(trees: Sequence[Tree]) -> Tree:
    """One tree whose leaves are those of `trees`, stacked along a new first dimension.

        >>> stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])
        {'w': tensor([[0., 0.],
                      [1., 1.]])}

    For modules, `torch.func.stack_module_state` does the same with parameters and buffers.

    Raises:
        StructureError: If there is no tree, or they differ in structure, or leaves in shape, dtype
            or device.
    """
    if isinstance(trees, Mapping):
        raise StructureError(
            "`stack`: expected a list of trees, got one dict: write `stack([a, b])`."
        )
    check_iterable("stack", "trees", trees, "a list of trees")
    trees = list(trees)
    if not trees:
        raise StructureError("`stack`: expected at least one tree, got none.")
    first, spec = tree.flatten(trees[0])
    columns = list(zip(*(leaves_like("stack", spec, other) for other in trees), strict=True))
    for name, leaf, column in zip(tree.names(trees[0]), first, columns, strict=True):
        metas = [_meta_of(x) for x in column]
        if other := next((meta for meta in metas if meta != _meta_of(leaf)), None):
            raise StructureError(
                f"`stack`: the leaves at `{name}` must have one shape, dtype and device, got "
                f"{_meta_of(leaf)} and {other}."
            )
    return spec.unflatten([None if x[0] is None else torch.stack(x) for x in columns])


def unstack(stacked: Tree) -> list[Tree]:
    """The inverse of `stack`: one tree for each entry along the first dimension, as views.

    Raises:
        StructureError: If there is no leaf, or they differ in their first dimension.
    """
    leaves, spec = tree.flatten(stacked)
    sizes = {
        name: x.shape[0] if isinstance(x, Tensor) and x.dim() else None
        for name, x in zip(tree.names(stacked), leaves, strict=True)
        if x is not None
    }
    if len(set(sizes.values())) != 1 or None in sizes.values():
        raise StructureError(
            "`unstack`: all leaves must be tensors with the same first dimension, got "
            f"{sizes or 'no leaves'}."
        )
    columns = [x if x is None else x.unbind() for x in leaves]
    (count,) = {len(column) for column in columns if column is not None}
    each = ([None if column is None else column[i] for column in columns] for i in range(count))
    return [spec.unflatten(mine) for mine in each]


def _meta_of(x: Any) -> Any:
    """Shape, dtype and device, for comparison and for errors."""
    return (tuple(x.shape), x.dtype, str(x.device)) if isinstance(x, Tensor) else type(x).__name__
