"""One pass over a list of tensors: the scalars of every stage, and the sums over tensors.

Authors of rules never see this. A `Node` holds the numbers of one stage for one update. Tensors
that share the values of the hyperparameters and the clock form a `Bucket`; a pure update has one
bucket, an optimizer with parameter groups has several, and scalars are prepared once for each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import tree
from ._typing import Memory, Slots
from .errors import ExtraArgumentError


class State(NamedTuple):
    """What a transformation that works tensor by tensor remembers."""

    step: Tensor  # (), int64: updates made so far
    memory: Memory  # what the rule, or each stage of the chain, remembers besides
    slots: Slots  # the parameters' tree, each leaf replaced by the rule's slots


class Bucket(NamedTuple):
    """Tensors that share hyperparameters and a clock, as one stage sees them."""

    tx: Any  # the stage, with the values of this bucket
    step: Any  # number of the update being made: 1 at the first
    count: Any  # updates already made, which schedules see: 0 at the first
    memory: Memory


class Members(NamedTuple):
    """The tensors of a pass: which bucket each belongs to, and what only some stages ask for."""

    which: Sequence[int]  # the bucket of each tensor
    extra: Mapping[str, Any]  # scalar arguments of `update`, such as the loss
    tensor_extra: Mapping[str, Sequence[Tensor]]  # arguments of `update` shaped like the parameters


class Scalars:
    """The numbers of one rule in one step, by name: its fields and what it has prepared."""

    def __init__(self, owner: str, values: Mapping[str, Any]) -> None:
        self._owner = owner
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        known = sorted(key for key in self.__dict__ if not key.startswith("_"))
        raise AttributeError(f"`{self._owner}` has no scalar `{name}`; it has {known}.")


class Node:
    """One stage during one update: its numbers, a row for each bucket, and its memory.

    A combinator's node has those of what it combines in `kids`.
    """

    def __init__(
        self,
        rules: Sequence[Any],
        rows: list[dict[str, Any]],
        memory: list[Memory],
        members: Members,
        kids: Sequence["Node"] = (),
    ) -> None:
        self.rules = rules  # one for each bucket, with its schedules evaluated
        self.rows = rows
        self.memory = memory
        self.members = members
        self.kids = kids
        self.which = members.which

    def scalars(self, like: Sequence[Tensor]) -> list[Scalars]:
        """The numbers for every tensor of the pass, those that are tensors in its dtype."""
        owner = type(self.rules[0]).__name__
        wanted = self.rules[0].tensor_extra
        made: dict[Any, Scalars] = {}
        out = []
        for i, (row, tensor) in enumerate(zip(self.which, like, strict=True)):
            key = (row, tensor.dtype)
            if key not in made:
                values = {k: _cast(v, tensor.dtype) for k, v in self.rows[row].items()}
                made[key] = Scalars(owner, values)
            s = made[key]
            if wanted:
                mine = {k: self.members.tensor_extra[k][i] for k in wanted}
                s = Scalars(owner, {**self.rows[row], **mine})
            out.append(s)
        return out

    def conclude(self, total: Any) -> None:
        """Gives the rule what was measured, the same for all; its answers become scalars."""
        rows = []
        for b, rule in enumerate(self.rules):
            more, self.memory[b] = self._conclude(rule, self.rows[b], self.memory[b], total)
            rows.append({**self.rows[b], **more})
        self.rows = rows

    def conclude_each(self, totals: Sequence[Any]) -> None:
        """The same, where each tensor has been measured by itself: each gets a row of its own."""
        rows = []
        for b, total in zip(self.which, totals, strict=True):
            more, _ = self._conclude(self.rules[b], self.rows[b], self.memory[b], total)
            rows.append({**self.rows[b], **more})
        self.rows, self.which = rows, range(len(rows))

    def _conclude(
        self, rule: Any, row: dict[str, Any], memory: Memory, total: Any
    ) -> tuple[Mapping[str, Any], Memory]:
        who, given = type(rule).__name__, self.members.extra
        if missing := sorted(rule.required_extra.difference(given, self.members.tensor_extra)):
            raise ExtraArgumentError(
                f"`{who}` needs the extra argument `{missing[0]}`: call "
                f"`update(updates, state, params, {missing[0]}=...)`."
            )
        extra = {k: v for k, v in given.items() if k in rule.extra}
        more, new = rule.conclude(Scalars(who, row), memory, total, **extra)
        return more, new


Reduce = Callable[[Node, list[Any]], None]


def reduce(node: Node, parts: list[Any]) -> None:
    """Combines what a stage measured of every tensor, and lets it conclude.

    The only place where a pass over memory is cut in two. Without tensors there is nothing to
    measure, and no tensor that would need the conclusion.
    """
    rule = node.rules[0]
    if not parts:
        return
    if rule.measure_per == "tensor":
        node.conclude_each(parts)
    else:
        node.conclude(tree.map(lambda *xs: _combine(rule.combine, xs), *parts))


def _combine(how: str, parts: Sequence[Tensor]) -> Tensor:
    dtype = torch.float32
    for part in parts:
        dtype = torch.promote_types(dtype, part.dtype)
    column = torch.stack([part.to(parts[0].device, dtype) for part in parts])
    if how == "sum":
        return column.sum(0)
    return column.amax(0) if how == "max" else column.amin(0)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, tuple):
        return tuple(_cast(v, dtype) for v in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value
