"""A step that is to be made in place, and how it is made tensor by tensor."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import precision
from .._core.loss import Loss
from .._core.reduction import reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from ..typing import Slots


class Work(NamedTuple):
    """Tensors with their gradients and slots, all of which have to be there."""

    tx: PerTensor  # of the first bucket; those of the others differ in numbers only
    buckets: Sequence[Bucket]
    which: Sequence[int]  # the bucket of each tensor
    ps: Sequence[Tensor]
    gs: Sequence[Tensor]
    slots: Sequence[Slots]
    flips: Sequence[bool]  # whether the gradient is to be negated
    names: Callable[[], Sequence[str | None]]
    keys: Callable[[], Sequence[str]]
    extra: Mapping[str, Any]
    tensor_extra: Mapping[str, Sequence[Tensor]]
    form: Any  # the same object as before, if all tensors have the form that they had before
    group: Any  # of processes whose ranks hold other tensors of the same tree
    evaluate: Callable[[Sequence[Tensor]], AbstractContextManager[Loss]] | None = None
    """Where the loss is evaluated again: what makes it a function of the tensors, for a while."""
    where: Any = None
    """The same object as before, if parameters and slots begin where they did; `None`: unknown."""

    def members(self, loss: Loss | None = None) -> Members:
        tensor_extra = {
            key: [precision.lift(x, self.wide(i)) for i, x in enumerate(values)]
            for key, values in self.tensor_extra.items()
        }
        return Members(
            bucket_of=self.which,
            extra=self.extra,
            tensor_extra=tensor_extra,
            names=self.names,
            keys=self.keys,
            tensors=self.ps,
            process_group=self.group,
            loss=loss,
        )

    def of(self, chosen: Sequence[int]) -> "Work":
        """The work on these tensors alone."""
        names, keys = self.names, self.keys
        return self._replace(
            which=[self.which[i] for i in chosen],
            ps=[self.ps[i] for i in chosen],
            gs=[self.gs[i] for i in chosen],
            slots=[self.slots[i] for i in chosen],
            flips=[self.flips[i] for i in chosen],
            names=lambda: [names()[i] for i in chosen],
            keys=lambda: [keys()[i] for i in chosen],
            tensor_extra={k: [v[i] for i in chosen] for k, v in self.tensor_extra.items()},
        )

    def wide(self, i: int) -> torch.dtype:
        return precision.compute_dtype(self.gs[i], self.ps[i], self.slots[i])

    def lifted(self, i: int) -> tuple[Tensor, Slots, Tensor]:
        """Gradient, slots and parameter of one tensor, as rules see them."""
        g, p, wide = self.gs[i], self.ps[i], self.wide(i)
        g = -g if self.flips[i] else g
        slots = precision.lift_slots(self.slots[i], p, wide)
        if self.tx.takes_examples():
            return precision.lift_examples(g, wide), slots, precision.lift(p, wide)
        return precision.lift(shards.placed_as(g, p), wide), slots, precision.lift(p, wide)

    def commit(self, i: int, u: Tensor, slots: Slots) -> None:
        """Writes what has become of one tensor."""
        p = shards.local(self.ps[i])
        p = torch.view_as_real(p) if p.is_complex() else p
        old, new = (
            precision.entries(x)
            for x in (self.slots[i], precision.lower_slots(slots, self.slots[i]))
        )
        changed = [(x, y) for x, y in zip(old, new, strict=True) if x is not y]
        values = precision.unaliased(tuple(y for _, y in changed), (p, *old))
        p.add_(u.view_as(p))
        for (x, _), y in zip(changed, values, strict=True):
            shards.local(x).copy_(shards.local(y))


class Chosen:
    """The members of a step that stand for all, found once for as long as the step is the same."""

    def __init__(self, chosen: Sequence[int] | None = None) -> None:
        self._chosen = chosen  # all of them if it is `None`
        self._of: tuple[Any, Any] = (None, None)
        self._found: tuple[Members, list[int]]

    def __call__(self, work: Work) -> tuple[Members, list[int]]:
        """The members, and the buckets that they belong to."""
        if work.extra or work.tensor_extra:
            return self._find(work)
        if self._of[0] is not work.ps or self._of[1] is not work.group:
            self._of, self._found = (work.ps, work.group), self._find(work)
        return self._found

    def _find(self, work: Work) -> tuple[Members, list[int]]:
        chosen = range(len(work.ps)) if self._chosen is None else self._chosen
        return work.members().subset(chosen)


def eagerly(work: Work) -> Node:
    """Makes a step operation by operation; nothing is written before all of it is known."""
    lifted = [work.lifted(i) for i in range(len(work.ps))]
    gs, slots, ps = ([one[k] for one in lifted] for k in range(3))
    if work.evaluate is not None:
        # Copies: new gradients are written, and the parameters are moved for it.
        gs, ps = [g.detach().clone() for g in gs], [p.detach().clone() for p in ps]
    with nullcontext() if work.evaluate is None else work.evaluate(ps) as loss:
        node = work.tx.open(work.buckets, work.members(loss))
        us, new = work.tx.run(gs, slots, ps, node, reduce)
    for i, (u, own) in enumerate(zip(us, new, strict=True)):
        work.commit(i, u, own)
    return node


def nodes_of(node: Node) -> list[Node]:
    """A node and all below it, in order."""
    found = [node]
    for child in node.children:
        found += nodes_of(child) if child.children else [child]
    return found
