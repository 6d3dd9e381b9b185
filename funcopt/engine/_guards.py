"""Numbers that a rule reads while it is recorded."""

from collections.abc import Callable, Sequence
from typing import Any

from .._core.stage import Node


class Unsupported(Exception):
    """What is to be recorded cannot be; it has to run as it is."""


class Fetch:
    """Finds a number among the nodes of a step, which are in the order of `nodes_of`.

    If it `varies`, each tensor has its own: then it is asked for by the tensor's place among those
    of the step.
    """

    def __init__(self, find: Callable[[Sequence[Node], int], Any], varies: bool = False) -> None:
        self.find, self.varies = find, varies


def constant(x: Any) -> Fetch:
    """It is always the same."""
    return Fetch(lambda nodes, i: x)


class Guard:
    """A question that was put to a number, and its answer: the recording holds while it stays."""

    def __init__(self, ask: Fetch, answer: Any) -> None:
        if ask.varies:
            raise Unsupported("a question to a number of which each tensor has its own")
        self._find, self._answer = ask.find, answer

    def holds(self, nodes: Sequence[Node]) -> bool:
        now = self._find(nodes, 0)
        return type(now) is type(self._answer) and bool(now == self._answer)
