"""Reductions over tensors: the only place where a pass over memory is cut in two."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics import shards
from ..errors import StructureError
from .stage import Node


class MeasureSpec:
    """How the table of a stage's measures is read: which tensors its rows are of, in which dtypes.

    The table has a row for each tensor, in a dtype that may be wider than that of the measures.
    """

    def __init__(
        self,
        spec: tree.Spec[Any],
        tensors: Sequence[Tensor],
        like: Sequence[Sequence[Tensor]],
        bucket_of: Sequence[int],
    ) -> None:
        """`like` has the dtypes and devices of the measures of each tensor."""
        self.spec = spec
        self.rows_by_dtype: dict[Any, list[int]] = {}  # by bucket, devices and dtypes
        for i, (bucket, own) in enumerate(zip(bucket_of, like, strict=True)):
            key = (bucket, *((x.device, x.dtype) for x in own))
            self.rows_by_dtype.setdefault(key, []).append(i)
        dtypes = {dtype for _, *each in self.rows_by_dtype for _, dtype in each}
        self.widest = functools.reduce(torch.promote_types, dtypes, torch.float32)
        sharded = any(map(shards.is_sharded, tensors))
        found = shards.group_by_mesh(tensors).values() if sharded else []
        each_mesh = [(rows, tensors[rows[0]]) for rows in found]
        self.sharded_rows = [(rows, like) for rows, like in each_mesh if shards.is_sharded(like)]


Reduce = Callable[[Node, list[Any]], None]


def reduce(node: Node, parts: list[Any]) -> None:
    """Reduces the measures of every tensor, and calls the stage's `conclude`.

    The only place where a pass over memory is cut in two. Sums span all ranks that hold parts of a
    tensor: one collective for each mesh, in which replicas count once. Without tensors there is
    nothing to measure, and no tensor that would need the conclusion.
    """
    if not parts:
        return
    rule, (_, spec) = node.rules[0], tree.flatten(parts[0])
    rows = [[_measure(part) for part in spec.flatten_up_to(x)] for x in parts]
    if len({part.shape for row in rows for part in row}) > 1:
        shapes = [tuple(part.shape) for row in rows for part in row]
        raise StructureError(
            f"`{type(rule).__name__}`: what is measured must have one shape in all tensors, "
            f"such as one number for each example, got {shapes}."
        )
    measures = MeasureSpec(spec, node.members.tensors, rows, node.row_of)
    conclude_measured(node, _table(rows, measures.widest), measures)


def conclude_measured(node: Node, table: Tensor, measures: MeasureSpec) -> None:
    """Reduces a table of measures, and calls the stage's `conclude`.

    The measures of one tensor are passed in their own dtype and on their device, a total in the
    widest dtype.
    """
    rule = node.rules[0]
    for rows, like in measures.sharded_rows:
        table[rows] = shards.reduce_over_ranks(rule.combine, table[rows], like)
    if rule.measure_per == "tensor":
        node.conclude_each(table, measures.rows_by_dtype, measures.spec)
    else:
        total = _combine(rule.combine, table).to(measures.widest)
        if node.members.process_group is not None:
            total = shards.all_reduce(rule.combine, total, node.members.process_group)
        node.conclude(measures.spec.unflatten(list(total.unbind())))


def _measure(part: Tensor) -> Tensor:
    return part.reshape(()) if part.numel() == 1 else part


def _table(rows: list[list[Tensor]], dtype: torch.dtype) -> Tensor:
    """The measures of every tensor as a matrix."""
    device = rows[0][0].device
    return torch.stack([torch.stack([x.to(device, dtype) for x in row]) for row in rows])


def _combine(how: str, table: Tensor) -> Tensor:
    """The measures of all tensors together."""
    if how == "sum":
        return table.sum(0)
    return table.amax(0) if how == "max" else table.amin(0)
