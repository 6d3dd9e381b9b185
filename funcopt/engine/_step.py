"""The inputs of a step that is made in place, and the eager step: one operation after another."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from .._core import precision
from .._core.loss import Loss
from .._core.ranks import Ranks
from .._core.reduction import reduce
from .._core.stage import NO_MEMBERS, Bucket, Members, Node
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from .._numerics.scalars import widen
from ..typing import Slots
from ._huge_pages import in_huge_pages


class Results(NamedTuple):
    """Where a step out of place writes: updates, and the entries of all slots, in fresh memory."""

    us: list[Tensor]  # or new parameters
    entries: list[Tensor]
    dtypes: Sequence[torch.dtype]  # of the updates
    are_applied: bool  # whether each is added to its parameter, and the sum is the result

    @classmethod
    def fresh(
        cls,
        ps: Sequence[Tensor],
        gs: Sequence[Tensor],
        entries: Sequence[Tensor],
        exact: bool = False,
        are_applied: bool = False,
    ) -> Self:
        """For updates in the dtypes of the gradients, or `exact` ones, and entries in their own."""
        dtypes = [widen(g.dtype) if exact else g.dtype for g in gs]
        made = [p.dtype for p in ps] if are_applied else dtypes
        us = [torch.empty_like(p, dtype=x) for p, x in zip(ps, made, strict=True)]
        new = list(map(fresh_like, entries))
        in_huge_pages([*us, *new])
        return cls(us, new, dtypes, are_applied)


def fresh_like(slot: Tensor) -> Tensor:
    """Memory for a new slot; it has the value that kernels, which copy no integers, may leave."""
    if slot.is_floating_point() or slot.is_complex():
        return torch.empty_like(slot)
    return slot.clone()


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
    tensor_extra: Mapping[str, Sequence[Tensor | None]]
    metadata_key: Any
    """The same object as in the step before if the metadata of all tensors is the same."""
    ranks: Ranks  # those that hold other parts, or other tensors of the same tree
    evaluate: Callable[[Sequence[Tensor]], AbstractContextManager[Loss]] | None = None
    """For stages that evaluate the loss again: makes it a function of tensors, in a context."""
    address_key: Any = None
    """The same object as before if parameters and slots have the same addresses, or `None`."""
    params: Sequence[Tensor] | None = None
    """The parameters as they were given, where others stand in for them: stages choose by these."""
    entries: Sequence[Tensor] | None = None
    """Those of all slots, in order, if they have been found."""
    results: Results | None = None
    """Where to write, if parameters and slots are to stay as they are."""

    @property
    def given(self) -> Sequence[Tensor]:
        """The parameters as they were given."""
        return self.ps if self.params is None else self.params

    @property
    def out_of_place(self) -> bool:
        """Whether parameters and slots stay as they are."""
        return self.results is not None

    def members(self, loss: Loss | None = None) -> Members:
        """The tensors as a pass sees them."""
        tensor_extra = {
            key: [
                None if x is None else precision.lift(x, self.compute_dtype(i))
                for i, x in enumerate(values)
            ]
            for key, values in self.tensor_extra.items()
        }
        return Members(
            bucket_of=self.bucket_of,
            extra=self.extra,
            tensor_extra=tensor_extra,
            names=self.names,
            keys=self.keys,
            tensors=self.given,
            ranks=self.ranks,
            loss=loss,
            in_place=not self.out_of_place,
        )

    def subset(self, indices: Sequence[int]) -> "StepInputs":
        """The inputs for these tensors only."""
        names, keys = self.names, self.keys
        return self._replace(
            bucket_of=[self.bucket_of[i] for i in indices],
            ps=[self.ps[i] for i in indices],
            params=None if self.params is None else [self.params[i] for i in indices],
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

    def commit(self, i: int, u: Tensor, slots: Slots, q: Tensor | None = None) -> None:
        """Applies the update of one tensor and stores its new slots, in place.

        `q` is what the parameter becomes, if that is not its sum with the update.
        """
        p = shards.local(self.ps[i])
        p = torch.view_as_real(p) if p.is_complex() else p
        old, new = (
            precision.entries(x)
            for x in (self.slots[i], precision.lower_slots(slots, self.slots[i]))
        )
        changed = [(x, y) for x, y in zip(old, new, strict=True) if x is not y]
        values = precision.unaliased(tuple(y for _, y in changed), (p, *old))
        if q is None:
            p.add_(u.view_as(p))
        else:
            p.copy_(q.view_as(p))
        for (x, _), y in zip(changed, values, strict=True):
            shards.local(x).copy_(shards.local(y))


class MembersCache:
    """The members of a step, or of some of its tensors, kept while the tensors are the same."""

    def __init__(self, indices: Sequence[int] | None = None) -> None:
        self._indices = indices  # all tensors if it is `None`
        self._key: tuple[Any, Any, Any] = (None, None, None)
        self._members: tuple[Members, list[int]] = (NO_MEMBERS, [])

    def __call__(self, inputs: StepInputs) -> tuple[Members, list[int]]:
        """The members, and the buckets that they belong to."""
        if inputs.extra or inputs.tensor_extra:
            return self._select(inputs)
        ps, ranks, bucket_of = self._key
        if ranks is not inputs.ranks or bucket_of is not inputs.bucket_of:
            self._members = self._select(inputs)
        elif ps is not inputs.ps:  # others in the place of those before
            members, used = self._members
            tensors = [inputs.given[i] for i in self._chosen(inputs)]
            self._members = members._replace(tensors=tensors), used
        self._key = (inputs.ps, inputs.ranks, inputs.bucket_of)
        return self._members

    def latest(self, stand_ins: Sequence[Any]) -> tuple[Members, list[int]]:
        """Those of the last step without extra arguments; stand-ins for tensors it has dropped."""
        members, used = self._members
        return (members if members.tensors else members._replace(tensors=stand_ins)), used

    def release(self) -> None:
        """Drops the tensors."""
        members, used = self._members
        self._members = members._replace(tensors=()), used
        self._key = (None, *self._key[1:])

    def _select(self, inputs: StepInputs) -> tuple[Members, list[int]]:
        return inputs.members().subset(self._chosen(inputs))

    def _chosen(self, inputs: StepInputs) -> Sequence[int]:
        return range(len(inputs.ps)) if self._indices is None else self._indices


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
    for i, (u, own, q) in enumerate(zip(us, new, new_params(node, us), strict=True)):
        inputs.commit(i, u, own, q)
    return node


def new_params(node: Node, us: Sequence[Any]) -> Sequence[Any]:
    """What the parameters of a pass become; `None` for their sum with the update."""
    return [None] * len(us) if node.new_params is None else node.new_params


def flatten_nodes(node: Node) -> list[Node]:
    """A node and all nodes below it, in order."""
    found = [node]
    for child in node.children:
        found += flatten_nodes(child) if child.children else [child]
    return found
