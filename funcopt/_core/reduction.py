"""Reductions over tensors: the only place where a pass over memory is cut in two."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import moved
from ..errors import StructureError
from .ranks import Span
from .stage import Node, Scalars


class MeasureSpec:
    """How the table of a stage's measures is read: which tensors its rows are of, in which dtypes.

    The table has a row for each tensor, in a dtype that may be wider than that of the measures.
    """

    def __init__(
        self,
        spec: tree.Spec[Any],
        columns: int,
        spans: Sequence[Span],
        like: Sequence[Sequence[Tensor]],
        bucket_of: Sequence[int],
        keys: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`like` has the dtypes and devices of the measures of each tensor, `keys` its name."""
        self.spec, self.spans, self.bucket_of, self.keys = spec, spans, bucket_of, keys
        self.no_rows = torch.empty(0, columns, dtype=torch.float64, device="cpu")
        self.rows_by_dtype: dict[Any, list[int]] = {}  # by bucket, devices and dtypes
        for i, (bucket, own) in enumerate(zip(bucket_of, like, strict=True)):
            key = (bucket, *((x.device, x.dtype) for x in own))
            self.rows_by_dtype.setdefault(key, []).append(i)
        dtypes = {dtype for _, *each in self.rows_by_dtype for _, dtype in each}
        self.widest = functools.reduce(torch.promote_types, dtypes, torch.float32)

        self.device = like[0][0].device if like else self.no_rows.device
        """Where totals are made: beside the first tensor."""


Reduce = Callable[[Node, list[Any]], None]


def reduce(node: Node, parts: list[Any]) -> None:
    """Reduces the measures of every tensor, and calls the stage's `conclude`.

    The only place where a pass over memory is cut in two. Sums span all ranks that hold parts of a
    tensor: one collective for each mesh, in which replicas count once.
    """
    if not parts:
        if (nothing := nothing_measured(node)) is not None:
            conclude_measured(node, nothing.no_rows, nothing)
        return
    rule, (_, spec) = node.rules[0], tree.flatten(parts[0])
    rows = [[_measure(part) for part in spec.flatten_up_to(x)] for x in parts]
    if len({part.shape for row in rows for part in row}) > 1:
        shapes = [tuple(part.shape) for row in rows for part in row]
        raise StructureError(
            f"`{type(rule).__name__}`: what is measured must have one shape in all tensors, "
            f"such as one number for each example, got {shapes}."
        )
    measures = MeasureSpec(spec, len(rows[0]), node.members.spans, rows, node.row_of, node.keys)
    conclude_measured(node, [_row(row, measures.widest) for row in rows], measures)


def nothing_measured(node: Node) -> MeasureSpec | None:
    """How the table of a pass without tensors is read, where other ranks wait for it.

    Else there is nothing to measure, and no tensor that would need the conclusion: `None`.
    """
    rule, ranks = node.rules[0], node.members.ranks
    if rule.measure_per == "tensor" or not ranks.share_tensors:
        return None
    # How many numbers there are is seen on some tensor.
    p = torch.zeros(1, dtype=torch.float32, device="cpu")
    extra = dict.fromkeys(rule.tensor_extra, p)
    s = Scalars(type(rule).__name__, {**node.rows[0], **extra})
    measured, spec = tree.flatten(rule.measure_tensor(p, rule.init_tensor(p), p, s))
    return MeasureSpec(spec, len(measured), [], [], [])


def conclude_measured(node: Node, table: Sequence[Tensor] | Tensor, measures: MeasureSpec) -> None:
    """Reduces a table of measures, and calls the stage's `conclude`.

    The table is a matrix, or its rows, which may be on several devices. The measures of one tensor
    are passed in their own dtype and on their device, a total in the widest dtype.
    """
    rule = node.rules[0]
    ranks = node.members.ranks
    if rule.measure_per == "tensor":
        if any(span.cuts for span in measures.spans):
            together = as_matrix(table, measures.device)
            table = ranks.each(rule.combine, together, measures.spans)
        node.conclude_each(table, measures.rows_by_dtype, measures.spec)
        node.row_buckets, node.row_keys = measures.bucket_of, measures.keys
    else:
        together = as_matrix(table, measures.device)
        total = ranks.total(rule.combine, together, measures.spans).to(measures.widest)
        node.conclude(measures.spec.unflatten(list(total.unbind())))


def _measure(part: Tensor) -> Tensor:
    return part.reshape(()) if part.numel() == 1 else part


def _row(row: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The measures of one tensor, where the first of them is."""
    return torch.stack([moved(x, row[0].device).to(dtype) for x in row])


def as_matrix(rows: Sequence[Tensor] | Tensor, device: torch.device) -> Tensor:
    """A table on one device, to which each of the others sends its rows at once."""
    if isinstance(rows, Tensor):
        return moved(rows, device)
    places: dict[torch.device, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.device, []).append(i)
    sent = {at: moved(torch.stack([rows[i] for i in own]), device) for at, own in places.items()}
    if len(sent) == 1:
        return next(iter(sent.values()))
    found = {i: row for at, own in places.items() for i, row in zip(own, sent[at], strict=True)}
    return torch.stack([found[i] for i in range(len(rows))])
