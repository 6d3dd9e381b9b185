"""The interface for mathematics of all tensors together."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..typing import Memory, Slots
from . import precision
from .per_tensor import PerTensor, check_fields, check_memory
from .reduction import Reduce
from .stage import Bucket, Members, Node, Scalars, cast_scalar, common_scalars
from .vector import Space, Vector


class VectorRule(PerTensor):
    """The mathematics of all tensors as one long vector, such as a quasi-Newton method.

    A subclass says what it keeps for one tensor, `init_tensor`: a named tuple of tensors like it,
    or of stacks of such; its shared scalars, `init_memory`; and `update_vector`. The `Space` that
    it is given makes vectors of tensors, and sums over all groups and ranks. Hyperparameters are in
    `s`; they must be the same in all groups.
    """

    memory_per = "tree"
    comes_first = True
    comes_last = True  # it needs the final update: its slots hold that

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_memory(cls)

    def init_tensor(self, p: Tensor) -> Slots:
        """The slots of one tensor before the first step: a named tuple, or ``()`` for none."""
        del p
        return ()

    @abstractmethod
    def update_vector(
        self, x: Vector, g: Vector, slots: Any, memory: Any, s: Scalars, space: Space, loss: Any
    ) -> tuple[Vector, Slots, Memory]:
        """The update, the new slots in the same form, and the new memory.

        Args:
            x: The parameters.
            g: The gradient.
            slots: The named tuple of `init_tensor`; each entry a list, with that of every tensor.
            memory: What `init_memory` or the last update returned.
            s: The fields annotated `Scalar`, as numbers.
            space: What makes vectors of tensors, and sums over all of them.
            loss: The `Loss`, if `needs_closure` holds.
        """

    @property
    def evaluates(self) -> bool:
        """Whether the loss is evaluated in an update."""
        return True

    def extra_names(self) -> frozenset[str]:
        return frozenset({"value", "value_fn"} if self.evaluates else ())

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        made = (
            precision.init_complex(self.init_tensor, p) if p.is_complex() else self.init_tensor(p)
        )
        return check_fields(f"{type(self).__name__}.init_tensor", made)

    def params_needed_by(self) -> str:
        return type(self).__name__

    def sign(self) -> int | None:
        return -1

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [bucket.tx.evaluated(bucket.count) for bucket in buckets]
        rows = [rule.hyperparam_values() for rule in rules]
        return Node(rules, rows, [bucket.memory for bucket in buckets], members)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        if node.members.nobody_waits:
            return gs, slots
        who, old = type(self).__name__, node.memory[0]
        kept = precision.entries(old)
        space = Space(gs, node.members, kept[0].device if kept else torch.device("cpu"))
        _, row = common_scalars(node.rules, node.rows)
        where = space.dtype, space.device
        scalars = Scalars(who, {k: cast_scalar(v, *where) for k, v in row.items()})
        loss = node.members.loss_for(who) if self.evaluates else None
        kind = type(slots[0] if slots else self.init_tensor(torch.zeros(1, device="cpu")))
        columns: list[list[Any]] = [[] for _ in getattr(kind, "_fields", ())]
        for own in slots:
            for column, x in zip(columns, own, strict=True):
                column.append(x)
        u, new, memory = self.update_vector(
            space.vector(ps),
            space.vector(gs),
            kind(*columns) if columns else (),
            old,
            scalars,
            space,
            loss,
        )
        memory = precision.map_slots(lambda x, like: x.to(like.dtype), memory, old)
        node.memory = [memory] * len(node.memory)
        if not new:
            return space.tensors(u), slots
        rows = zip(zip(*new, strict=True), slots, strict=True)
        # A stack of 0-d tensors comes without the dimension that these have here.
        return space.tensors(u), [precision.map_slots(_shaped, kind(*x), like) for x, like in rows]


def _shaped(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape == like.shape else x.reshape(like.shape)
