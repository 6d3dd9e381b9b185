"""The inputs of a step that is made in place, and the eager step: one operation after another."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.loss import Loss
from .._core.ranks import Ranks
from .._core.reduction import reduce
from .._core.stage import NO_MEMBERS, Bucket, Members, Node
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from ..typing import Slots


class Results(NamedTuple):
    """Where a step out of place writes: updates and slots of each tensor, in fresh memory."""

    us: list[Tensor]
    slots: list[Slots]

    @classmethod
    def fresh(cls, ps: Sequence[Tensor], gs: Sequence[Tensor], slots: Sequence[Slots]) -> Self:
        """For updates in the dtypes of the gradients, and slots in their own."""
        leaves, spec = tree.flatten(list(slots))
        us = [torch.empty_like(p, dtype=g.dtype) for p, g in zip(ps, gs, strict=True)]
        return cls(us, spec.unflatten(list(map(_fresh, leaves))))


def _fresh(slot: Tensor | None) -> Tensor | None:
    """Memory for a new slot; it has the value that kernels, which copy no integers, may leave."""
    if slot is None:
        return None
    floating = slot.is_floating_point() or slot.is_complex()
    return torch.empty_like(slot) if floating else slot.clone()


class StepInputs(NamedTuple):
    """Everything that one step works on: parameters with their gradients and slots, by index."""

    tx: PerTensor  # of the first bucket; those of the others have the same structure
    buckets: Sequence[Bucket]
    bucket_of: Sequence[int]
    ps: Sequence[Tensor]
    gs: Sequence[Tensor]  # placed as the parameters are
    slots: Sequence[Slots]
    negate: Sequence[bool]  # whether the gradient is negated, to maximize
    names: Callable[[], Sequence[str | None]]
    keys: Callable[[], Sequence[str]]  # of the random numbers of each tensor
    extra: Mapping[str, Any]
    tensor_extra: Mapping[str, Sequence[Tensor]]
    metadata_key: Any
    """The same object as in the step before if the metadata of all tensors is the same."""
    ranks: Ranks  # those that hold other parts, or other tensors of the same tree
    evaluate: Callable[[Sequence[Tensor]], AbstractContextManager[Loss]] | None = None
    """For stages that evaluate the loss again: makes it a function of tensors, in a context."""
    address_key: Any = None
    """The same object as before if parameters and slots have the same addresses, or `None`."""
    results: Results | None = None
    """Where to write, if parameters and slots are to stay as they are."""

    @property
    def out_of_place(self) -> bool:
        """Whether parameters and slots stay as they are."""
        return self.results is not None

    def members(self, loss: Loss | None = None) -> Members:
        """The tensors as a pass sees them."""
        tensor_extra = {
            key: [precision.lift(x, self.compute_dtype(i)) for i, x in enumerate(values)]
            for key, values in self.tensor_extra.items()
        }
        return Members(
            bucket_of=self.bucket_of,
            extra=self.extra,
            tensor_extra=tensor_extra,
            names=self.names,
            keys=self.keys,
            tensors=self.ps,
            ranks=self.ranks,
            loss=loss,
        )

    def subset(self, indices: Sequence[int]) -> "StepInputs":
        """The inputs for these tensors only."""
        names, keys = self.names, self.keys
        return self._replace(
            bucket_of=[self.bucket_of[i] for i in indices],
            ps=[self.ps[i] for i in indices],
            gs=[self.gs[i] for i in indices],
            slots=[self.slots[i] for i in indices],
            negate=[self.negate[i] for i in indices],
            names=lambda: [names()[i] for i in indices],
            keys=lambda: [keys()[i] for i in indices],
            tensor_extra={k: [v[i] for i in indices] for k, v in self.tensor_extra.items()},
        )

    def compute_dtype(self, i: int) -> torch.dtype:
        """The dtype in which one tensor is computed."""
        return precision.compute_dtype(self.gs[i], self.ps[i], self.slots[i])

    def lifted(self, i: int) -> tuple[Tensor, Slots, Tensor]:
        """Gradient, slots and parameter of one tensor, as rules see them."""
        g, p, wide = self.gs[i], self.ps[i], self.compute_dtype(i)
        g = -g if self.negate[i] else g
        slots = precision.lift_slots(self.slots[i], p, wide)
        if self.tx.takes_examples():
            return precision.lift_examples(g, wide), slots, precision.lift(p, wide)
        return precision.lift(g, wide), slots, precision.lift(p, wide)

    def commit(self, i: int, u: Tensor, slots: Slots) -> None:
        """Applies the update of one tensor and stores its new slots, in place."""
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


class MembersCache:
    """The members of a step, or of some of its tensors, kept while the tensors are the same."""

    def __init__(self, indices: Sequence[int] | None = None) -> None:
        self._indices = indices  # all tensors if it is `None`
        self._key: tuple[Any, Any]
        self._members: tuple[Members, list[int]]
        self.release()

    def __call__(self, inputs: StepInputs) -> tuple[Members, list[int]]:
        """The members, and the buckets that they belong to."""
        if inputs.extra or inputs.tensor_extra:
            return self._select(inputs)
        if self._key[0] is not inputs.ps or self._key[1] is not inputs.ranks:
            key = (inputs.ps, inputs.ranks)
            self._members, self._key = self._select(inputs), key
        return self._members

    def release(self) -> None:
        """Drops them, and with them the tensors."""
        self._key = (None, None)
        self._members = (NO_MEMBERS, [])

    def _select(self, inputs: StepInputs) -> tuple[Members, list[int]]:
        indices = range(len(inputs.ps)) if self._indices is None else self._indices
        return inputs.members().subset(indices)


def eager_step(inputs: StepInputs) -> Node:
    """Makes a step operation by operation; nothing is written before everything is computed."""
    inputs.ranks.again()
    lifted = [inputs.lifted(i) for i in range(len(inputs.ps))]
    gs, slots, ps = ([one[k] for one in lifted] for k in range(3))
    if inputs.evaluate is not None:
        # Copies: an evaluation writes new gradients, and moves the parameters.
        gs, ps = [g.detach().clone() for g in gs], [p.detach().clone() for p in ps]
    with nullcontext() if inputs.evaluate is None else inputs.evaluate(ps) as loss:
        node = inputs.tx.open(inputs.buckets, inputs.members(loss))
        us, new = inputs.tx.run(gs, slots, ps, node, reduce)
    for i, (u, own) in enumerate(zip(us, new, strict=True)):
        inputs.commit(i, u, own)
    return node


def flatten_nodes(node: Node) -> list[Node]:
    """A node and all nodes below it, in order."""
    found = [node]
    for child in node.children:
        found += flatten_nodes(child) if child.children else [child]
    return found
