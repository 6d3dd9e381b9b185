"""Guards: the values that a trace relies on, checked before it is replayed."""

from collections.abc import Callable, Sequence, Set
from typing import Any

from torch import Tensor

from .._core.stage import Node


class Unsupported(Exception):
    """Something that cannot be traced, lowered or compiled: the step runs eagerly."""


class GuardFailed(Exception):
    """A guard does not hold any more: the step has to be traced again."""


class ScalarSource:
    """Where a scalar is read in every step: from its nodes, in the order of `flatten_nodes`.

    With `per_tensor`, every tensor has a value of its own, which is read by the index of the tensor
    among those of the step. `of` are the nodes that it depends on, by index, if it depends on
    nothing else: where their scalars are the same, it is.
    """

    def __init__(
        self,
        read: Callable[[Sequence[Node], int], Any],
        per_tensor: bool = False,
        of: frozenset[int] | None = None,
    ) -> None:
        self.read, self.per_tensor, self.of = read, per_tensor, of

    def item(self, key: Any) -> "ScalarSource":
        """An item of what it reads."""
        read = self.read
        return ScalarSource(lambda nodes, i: read(nodes, i)[key], self.per_tensor, self.of)

    def depends_on(self, nodes: Set[int]) -> bool:
        """Whether it may be another if the scalars of these nodes are."""
        return self.of is None or not self.of.isdisjoint(nodes)


def constant_source(value: Any) -> ScalarSource:
    """The source of a scalar that is the same in every step."""
    of = None if isinstance(value, Tensor) else frozenset[int]()  # which may be written into
    return ScalarSource(lambda nodes, i: value, of=of)


class Guard:
    """The value of a scalar, or of a predicate of it, that a trace depends on."""

    def __init__(self, source: ScalarSource, expected: Any) -> None:
        if source.per_tensor:
            raise Unsupported("control flow that depends on a scalar of a single tensor")
        self._read, self._expected, self.source = source.read, expected, source

    def holds(self, nodes: Sequence[Node]) -> bool:
        """Whether the value is still the expected one."""
        value = self._read(nodes, 0)
        return type(value) is type(self._expected) and bool(value == self._expected)


def guards_hold(guards: Sequence[Guard], nodes: Sequence[Node]) -> bool:
    """Whether all guards hold."""
    return all(guard.holds(nodes) for guard in guards)
