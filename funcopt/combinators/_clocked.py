"""A step count of its own, for a transformation that is not run at every update."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import PerTensor, Ran
from .._numerics.scalars import number
from ..typing import Memory, Slots
from ._around import Around


class Clock(NamedTuple):
    """The step count of `inner`, for its bias corrections, and its memory."""

    inner_step: Tensor  # (), int64: updates that `inner` has made of the tensors of this count
    inner: Memory


class clocked(Around):
    """Runs `inner` with its own step count, so that a combinator can skip it."""

    replayable = True
    follows_counts = True
    own_memory = True
    inner: PerTensor

    def init_memory(self, like: Tensor) -> Clock:
        return Clock(torch.zeros((), dtype=torch.int64), self.inner.init_memory(like))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rows = []
        for b in buckets:
            step = number(b.memory.inner_step) + 1
            rows.append(b._replace(tx=b.tx.inner, step=step, memory=b.memory.inner))
        memory = [b.memory for b in buckets]
        return Node([], [], memory, members, [self.inner.open(rows, members)])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        return self.inner.run(gs, slots, ps, node.children[0], reduce)

    def memory_after(self, node: Node) -> list[Memory]:
        inner = self.inner.memory_after(node.children[0])
        each = zip(node.memory, inner, strict=True)
        return [Clock(old.inner_step + 1, new) for old, new in each]

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        return self.inner.nodes(node.children[0], buckets)

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        return self.inner.counts(count, memory.inner)
