"""Stages that take whole trees, as part of a pass over a list of tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .. import tree
from .._core.loss import TreeLoss
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation, Part, PerTensor
from ..tree import ParamTree
from ..typing import Memory, Slots


class WholeSlots(NamedTuple):
    """The part of a whole tree's state that belongs to one tensor."""

    slots: tuple[Any, ...]


class WholeMemory(NamedTuple):
    """The rest of that state."""

    memory: tuple[Tensor, ...]


class whole(PerTensor):
    """Adapts a stage that takes whole trees to a pass over tensors, as an optimizer needs it.

    The stage is given `ParamTree` nodes. Such nodes in its state become the slots of the tensors,
    one by one; its other leaves are a memory that all of them share. So `init` has to treat the
    parameters one by one. On shards, it is given the parts of this rank.
    """

    inner: GradientTransformation
    memory_per = "tree"

    def children(self) -> dict[str, GradientTransformation]:
        return {"inner": self.inner}

    def with_children(self, children: Any) -> "whole":
        return whole(**children)

    def extra_names(self) -> frozenset[str] | None:
        return self.inner.extra_names()

    def takes_examples(self) -> bool:
        return self.inner.takes_examples()

    def sign(self) -> int | None:
        return self.inner.sign()

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        nodes, _ = _split(self.inner.init(ParamTree([p])))
        return WholeSlots(tuple(node[0] for node in nodes))

    def init_memory(self, like: Tensor) -> Memory:
        return WholeMemory(tuple(_split(self.inner.init(ParamTree([])))[1]))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        return Node([], [], [b.memory for b in buckets], members)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        leaves, spec = tree.flatten_around(self.inner.init(ParamTree([])))
        remembered = iter(node.memory[0].memory)
        columns = zip(*(own.slots for own in slots), strict=True)
        nodes = (ParamTree(column) for column in columns)
        state = spec.unflatten(
            [next(nodes, x) if isinstance(x, ParamTree) else next(remembered) for x in leaves]
        )
        extra = node.members.extra
        known = self.inner.extra_names()
        extra = {k: v for k, v in extra.items() if known is None or k in known}
        loss = node.members.loss
        if loss is not None and (known is None or "value_fn" in known):
            extra["value_fn"] = TreeLoss(loss, ParamTree)
        us, new = self.inner.update(ParamTree(gs), state, ParamTree(ps), **extra)
        kept, memory = _split(new)
        node.memory = [WholeMemory(tuple(memory))] * len(node.memory)
        rows = zip(*kept, strict=True) if kept else [()] * len(gs)
        return list(us), [WholeSlots(row) for row in rows]

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list[Part]:
        return [(self, slots)]


def _split(state: Any) -> tuple[list[ParamTree], list[Tensor]]:
    """The nodes of a state that belong to the tensors, and its other leaves."""
    leaves, _ = tree.flatten_around(state)
    nodes = [x for x in leaves if isinstance(x, ParamTree)]
    return nodes, [x for x in leaves if not isinstance(x, ParamTree)]
