"""The sums over tensors: the only place where a pass over memory is cut in two."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics import shards
from ..errors import StructureError
from .stage import Node


class Measured:
    """Of which tensors a stage has measured something, and how to read the table of it.

    The table has a row for each tensor, and may be wider than what was measured.
    """

    def __init__(
        self,
        spec: tree.Spec,
        tensors: Sequence[Tensor],
        like: Sequence[Sequence[Tensor]],
        which: Sequence[int],
    ) -> None:
        """`like`: what was measured of each tensor, as to dtype and device; `which`: its bucket."""
        self.spec = spec
        self.alike: dict[Any, list[int]] = {}  # rows, by bucket, devices and dtypes
        for i, (bucket, own) in enumerate(zip(which, like, strict=True)):
            key = (bucket, *((x.device, x.dtype) for x in own))
            self.alike.setdefault(key, []).append(i)
        forms = {form for _, *each in self.alike for form in each}
        self.widest = functools.reduce(
            torch.promote_types, (dtype for _, dtype in forms), torch.float32
        )
        sharded = any(map(shards.is_sharded, tensors))
        found = shards.same_ranks(tensors).values() if sharded else []
        ranks = [(places, tensors[places[0]]) for places in found]
        self.ranks = [(places, like) for places, like in ranks if shards.is_sharded(like)]


Reduce = Callable[[Node, list[Any]], None]


def reduce(node: Node, parts: list[Any]) -> None:
    """Combines what a stage measured of every tensor, and lets it conclude.

    The only place where a pass over memory is cut in two. Sums span all ranks that hold parts of a
    tensor: one collective for each mesh, in which copies count once. Without tensors there is
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
    measured = Measured(spec, node.members.tensors, rows, node.which)
    settle(node, _table(rows, measured.widest), measured)


def settle(node: Node, table: Tensor, measured: Measured) -> None:
    """Combines what was measured, and lets the stage conclude.

    Of each tensor it is told in the dtype and where it was measured, of all together in the widest.
    """
    rule = node.rules[0]
    for places, like in measured.ranks:
        table[places] = shards.over_ranks(rule.combine, table[places], like)
    if rule.measure_per == "tensor":
        node.conclude_each(table, measured.alike, measured.spec)
    else:
        total = _combine(rule.combine, table).to(measured.widest)
        if node.members.group is not None:
            total = shards.all_reduce(rule.combine, total, node.members.group)
        node.conclude(measured.spec.unflatten(list(total.unbind())))


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
