"""The base of `partition` and `masked`: every parameter goes through one of several branches."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import (
    GradientTransformation,
    NamedParams,
    Part,
    PerTensor,
    Ran,
    below,
)
from ..typing import Memory, Slots
from ._clocked import Clock, clocked
from ._inner import check_inner, check_parts
from ._labels import Choice
from ._order import changes_updates, comes_last


class ByLabel(PerTensor):
    """Transforms every parameter by the branch of its label.

    Slots, and the memory, are tuples with one entry per branch; for the branches that are not its
    own, a tensor has ``()``.
    """

    replayable = True
    follows_counts = True
    chooses = True

    @abstractmethod
    def branches(self) -> Mapping[str, GradientTransformation]:
        """The transformations, by label."""

    @abstractmethod
    def choice(self) -> Choice:
        """The function that labels the parameters."""

    @abstractmethod
    def branch(self, choice: Choice, name: str | None, p: Tensor) -> str:
        """The label of the branch of one parameter."""

    def params_of_children(self, params: NamedParams) -> dict[str, NamedParams]:
        choice = self.choice()
        mine: dict[str, list[Any]] = {key: [] for key in self.children()}
        for name, p in params:
            label = self.branch(choice, name, p)
            if label in mine:
                mine[label].append((name, p))
        return {key: own for key, own in mine.items() if own}

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return any(map(comes_last, self._each()))

    @property
    def changes_updates(self) -> bool:  # type: ignore[override]
        return any(map(changes_updates, self._each()))

    def check_branches(self) -> None:
        """Refuses a transformation that cannot be a branch."""
        for label, tx in self.branches().items():
            check_inner(self, tx, repr(label))

    def extra_names(self) -> frozenset[str] | None:
        return frozenset().union(*(tx.extra_names() or () for tx in self._each()))

    def tensor_extra_names(self) -> frozenset[str]:
        return frozenset().union(*(tx.tensor_extra_names() for tx in self._each()))

    def sign(self) -> int | None:
        signs = {tx.sign() for tx in self._each()}
        return signs.pop() if len(signs) == 1 else None

    def params_needed_by(self) -> str | None:
        return next(filter(None, (tx.params_needed_by() for tx in self._each())), None)

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        choice = self.choice()
        choice.check(params)
        labels = [self.branch(choice, name, p) for name, p in params]
        for own, tx in zip(self.branches(), self._each(), strict=True):
            mine = zip(params, labels, strict=True)
            tx.check_names([param for param, label in mine if label == own])

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        mine = self.branch(self.choice(), name, p)
        return tuple(
            tx.init_slots(name, p) if label == mine else ()
            for label, tx in zip(self.branches(), self._each(), strict=True)
        )

    def init_memory(self, like: Tensor) -> Memory:
        return tuple(tx.init_memory(like) for tx in self._each())

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        for b in buckets:
            check_parts(self, "part", len(self.branches()), b.memory)
        choice, names = self.choice(), members.names()
        labels = [self.branch(choice, n, p) for n, p in zip(names, members.tensors, strict=True)]
        node = _Split([], [], [b.memory for b in buckets], members)
        for j, (label, tx) in enumerate(zip(self.branches(), self._each(), strict=True)):
            if chosen := [i for i, own in enumerate(labels) if own == label]:
                mine, used = members.subset(chosen)
                rows = []
                for k in used:
                    own = buckets[k].memory[j]
                    branch = by_own_clock(buckets[k].tx.branches()[label], own)
                    rows.append(buckets[k]._replace(tx=branch, memory=own))
                tx = by_own_clock(tx, rows[0].memory)
                node.branches.append(_Branch(j, tx, chosen, used, tx.open(rows, mine)))
            elif members.ranks.share_tensors:  # other ranks may have some, and wait for this one
                mine, _ = members.subset([])
                used = [] if members.tensors else list(range(len(buckets)))
                memory = (
                    [b.memory[j] for b in buckets]
                    if used
                    else [tx.init_memory(torch.zeros((), device="cpu"))]
                )
                rows = [
                    b._replace(tx=by_own_clock(b.tx.branches()[label], own), memory=own)
                    for b, own in zip(buckets, memory, strict=False)
                ]
                tx = by_own_clock(tx, rows[0].memory)
                node.branches.append(_Branch(j, tx, [], used, tx.open(rows, mine)))
        node.children = [branch.node for branch in node.branches]
        return node

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        us, new = list(gs), list(slots)
        for j, tx, chosen, _, child in node.branches:  # type: ignore[attr-defined]
            own = [slots[i][j] for i in chosen]
            done = tx.run([gs[i] for i in chosen], own, [ps[i] for i in chosen], child, reduce)
            for i, u, entry in zip(chosen, *done, strict=True):
                us[i], new[i] = u, (*slots[i][:j], entry, *slots[i][j + 1 :])
        return us, new

    def memory_after(self, node: Node) -> list[Memory]:
        memory = [list(of_bucket) for of_bucket in node.memory]
        for j, tx, _, used, child in node.branches:  # type: ignore[attr-defined]
            after_each = tx.memory_after(child) if used else ()
            for bucket, after in zip(used, after_each, strict=True):
                memory[bucket][j] = after
        return [tuple(of_bucket) for of_bucket in memory]

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        j = list(self.branches()).index(self.branch(self.choice(), name, p))
        branch = by_own_clock(self._each()[j], memory[j])
        return branch.eval_param(name, p, slots[j], memory[j])

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        labels, found = list(self.branches()), {}
        for part in node.branches:  # type: ignore[attr-defined]
            inside = part.tx.nodes(part.node, [buckets[k] for k in part.used])
            found.update(below(labels[part.position], inside))
        return found

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        found: dict[tuple[str, ...], Any] = {}
        for label, tx, own in zip(self.branches(), self._each(), memory, strict=True):
            found.update(below(label, by_own_clock(tx, own).counts(count, own)))
        return found

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list[Part]:
        j = list(self.branches()).index(self.branch(self.choice(), name, p))
        return self._each()[j].slot_parts(slots[j], name, p)

    def memory_parts(self, memory: Memory, name: str | None, p: Tensor) -> list[Part]:
        j = list(self.branches()).index(self.branch(self.choice(), name, p))
        return self._each()[j].memory_parts(memory[j], name, p)

    def _each(self) -> Sequence[PerTensor]:
        return tuple(self.branches().values())  # type: ignore[arg-type]  # as checked when made


def by_own_clock(tx: PerTensor, memory: Memory) -> PerTensor:
    """A branch as its memory has it: one that was reset has its own step count there."""
    return clocked(tx) if isinstance(memory, Clock) else tx


class _Branch(NamedTuple):
    """The parameters of one label in one update."""

    position: int  # among the branches
    tx: PerTensor
    chosen: Sequence[int]  # of the tensors of the pass
    used: Sequence[int]  # of the buckets
    node: Node


class _Split(Node):
    """The node of a partition: what is done for each label that has a tensor in the pass."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.branches: list[_Branch] = []
