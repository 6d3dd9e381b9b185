"""The base class of combinators that always run their one inner transformation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from .._core.stage import Node
from .._core.tensor_rule import GradientTransformation, Part, PerTensor, Ran, below
from ..typing import Memory, Slots


class Around(PerTensor):
    """Takes the names and extra arguments that `inner` takes.

    Its slots and its memory are those of `inner`, or a named tuple with these in a field `inner`.
    """

    inner: GradientTransformation

    follows_counts = True

    own_slots: ClassVar[bool] = False
    """Whether it has slots of its own as well."""

    own_memory: ClassVar[bool] = False
    """The same of the memory."""

    @property
    def _inner(self) -> PerTensor:
        return self.inner  # type: ignore[return-value]  # as checked when made

    def children(self) -> dict[str, GradientTransformation]:
        return {"inner": self.inner}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> Self:
        return self.replace(**children)

    def sign(self) -> int | None:
        return self.inner.sign()

    def extra_names(self) -> frozenset[str] | None:
        return self.inner.extra_names()

    def tensor_extra_names(self) -> frozenset[str]:
        return self._inner.tensor_extra_names()

    def params_needed_by(self) -> str | None:
        return self._inner.params_needed_by()

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        self._inner.check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return self._inner.init_slots(name, p)

    def init_memory(self, like: Tensor) -> Memory:
        return self._inner.init_memory(like)

    def memory_after(self, node: Node) -> list[Memory]:
        return self._inner.memory_after(node.children[0])

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        own, shared = _inner(slots, self.own_slots), _inner(memory, self.own_memory)
        return self._inner.eval_param(name, p, own, shared)

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        inner = self._inner.nodes(node.children[0], buckets)
        return {(): Ran(self, node, buckets), **below("inner", inner)}

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        inner = self._inner.counts(count, _inner(memory, self.own_memory))
        return {(): count, **below("inner", inner)}

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list[Part]:
        inner = self._inner.slot_parts(_inner(slots, self.own_slots), name, p)
        return [(self, _own(slots, self.own_slots)), *inner]

    def memory_parts(self, memory: Memory, name: str | None, p: Tensor) -> list[Part]:
        inner = self._inner.memory_parts(_inner(memory, self.own_memory), name, p)
        return [(self, _own(memory, self.own_memory)), *inner]


def _inner(value: Any, has_own: bool) -> Any:
    return value.inner if has_own else value


def _own(value: Any, has_own: bool) -> Any:
    return value._replace(inner=()) if has_own else ()
