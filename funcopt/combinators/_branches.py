"""The base of combinators that give several transformations the same updates, and merge theirs."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation, Part, PerTensor, Ran, below
from ..typing import Memory, Slots
from ._inner import check_inner, check_parts
from ._order import refuse_last


class Branches(PerTensor):
    """Runs every branch on the same updates, and makes one update of theirs.

    Slots, and the memory, are tuples with one entry per branch. The last node below that of the
    combinator is for the merge.
    """

    replayable = True
    follows_counts = True

    @abstractmethod
    def open_merge(self, buckets: Sequence[Bucket], members: Members) -> Node:
        """The scalars of the merge."""

    @abstractmethod
    def merge(self, us: Sequence[list[Tensor]], node: Node, reduce: Reduce) -> list[Tensor]:
        """The updates, of those of each branch."""

    def check_branches(self) -> None:
        """Refuses a transformation that cannot be a branch."""
        for key, tx in self.children().items():
            check_inner(self, tx, f"`{key}`" if key.isidentifier() else f"branch {key}")
            refuse_last(self, tx)

    def extra_names(self) -> frozenset[str] | None:
        return frozenset().union(*(tx.extra_names() or () for tx in self._each()))

    def tensor_extra_names(self) -> frozenset[str]:
        return frozenset().union(*(tx.tensor_extra_names() for tx in self._each()))

    def params_needed_by(self) -> str | None:
        return next(filter(None, (tx.params_needed_by() for tx in self._each())), None)

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        for tx in self._each():
            tx.check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return tuple(tx.init_slots(name, p) for tx in self._each())

    def init_memory(self, like: Tensor) -> Memory:
        return tuple(tx.init_memory(like) for tx in self._each())

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        for b in buckets:
            check_parts(self, "branch", len(self._each()), b.memory)
        nodes = []
        for i, tx in enumerate(self._each()):
            mine = [b._replace(tx=b.tx._each()[i], memory=b.memory[i]) for b in buckets]
            nodes.append(tx.open(mine, members))
        nodes.append(self.open_merge(buckets, members))
        return Node([], [], [b.memory for b in buckets], members, nodes)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        *nodes, last = node.children
        us, columns = [], []
        for i, (tx, child) in enumerate(zip(self._each(), nodes, strict=True)):
            u, column = tx.run(gs, [own[i] for own in slots], ps, child, reduce)
            us.append(u)
            columns.append(column)
        return self.merge(us, last, reduce), list(zip(*columns, strict=True))

    def memory_after(self, node: Node) -> list[Memory]:
        each = zip(self._each(), node.children, strict=False)  # the last node is the merge's
        return list(zip(*(tx.memory_after(child) for tx, child in each), strict=True))

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        found: dict[tuple[str, ...], Ran] = {(): Ran(self, node, buckets)}
        for key, tx, child in zip(self.children(), self._each(), node.children, strict=False):
            found.update(below(key, tx.nodes(child, buckets)))
        return found

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        found: dict[tuple[str, ...], Any] = {(): count}
        for key, tx, own in zip(self.children(), self._each(), memory, strict=True):
            found.update(below(key, tx.counts(count, own)))
        return found

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list[Part]:
        each = zip(self._each(), slots, strict=True)
        return [(self, ()), *(x for tx, own in each for x in tx.slot_parts(own, name, p))]

    def memory_parts(self, memory: Memory, name: str | None, p: Tensor) -> list[Part]:
        each = zip(self._each(), memory, strict=True)
        return [(self, ()), *(x for tx, own in each for x in tx.memory_parts(own, name, p))]

    def _each(self) -> Sequence[PerTensor]:
        return tuple(self.children().values())  # type: ignore[arg-type]  # as checked when made


def sign_of(branches: Sequence[GradientTransformation]) -> int | None:
    """The sign that all branches give their updates, if it is known and the same."""
    signs = {tx.sign() for tx in branches}
    return signs.pop() if len(signs) == 1 else None
