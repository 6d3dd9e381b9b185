"""The base class of combinators whose inner transformation has its own step count."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor

from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation, Part, PerTensor, Ran, below
from .._numerics.scalars import number
from ._clocked import clocked
from ._order import comes_last


class Wrapper(PerTensor):
    """Runs `inner` not in every update, or not alone.

    Slots and memory are named tuples whose field `inner` is that of the inner transformation. The
    memory also has `inner_updates`, the number of times that it has run: its schedules are given
    this, also for a parameter that joins late, whose own step count starts at 0.
    """

    inner: GradientTransformation

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return comes_last(self.inner)

    def clocked(self) -> PerTensor:
        """The inner transformation, with its own step count."""
        return clocked(self.inner)  # type: ignore[arg-type]  # as checked when made

    def open_inner(self, buckets: Sequence[Bucket], members: Members) -> Node:
        """The node of the inner transformation."""
        rows = []
        for b in buckets:
            made = number(b.memory.inner_updates)
            rows.append(b._replace(tx=b.tx.clocked(), count=made, memory=b.memory.inner))
        return self.clocked().open(rows, members)

    def children(self) -> dict[str, GradientTransformation]:
        return {"inner": self.inner}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> Self:
        return self.replace(**children)

    def extra_names(self) -> frozenset[str] | None:
        return self.inner.extra_names()

    def tensor_extra_names(self) -> frozenset[str]:
        return self.clocked().tensor_extra_names()

    def params_needed_by(self) -> str | None:
        return self.clocked().params_needed_by()

    def sign(self) -> int | None:
        return self.inner.sign()

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        self.clocked().check_names(params)

    def eval_param(self, name: str | None, p: Tensor, slots: Any, memory: Any) -> Tensor:
        return self.clocked().eval_param(name, p, slots.inner, memory.inner)

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        inner = self.clocked().nodes(node.children[-1], buckets)
        return {(): Ran(self, node, buckets), **below("inner", inner)}

    def counts(self, count: Any, memory: Any) -> dict[tuple[str, ...], Any]:
        made = number(memory.inner_updates)
        return {(): count, **below("inner", self.clocked().counts(made, memory.inner))}

    def slot_parts(self, slots: Any, name: str | None, p: Tensor) -> list[Part]:
        inner = self.clocked().slot_parts(slots.inner, name, p)
        return [(self, slots._replace(inner=())), *inner]

    def memory_parts(self, memory: Any, name: str | None, p: Tensor) -> list[Part]:
        inner = self.clocked().memory_parts(memory.inner, name, p)
        return [(self, memory._replace(inner=())), *inner]
