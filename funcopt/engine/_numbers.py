"""Numbers that a rule reads while it is recorded."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .._pass import Node


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


class Number:
    """A Python number that may be another in the next step.

    With other numbers it makes numbers, in float64 as ever. Where it meets a tensor it becomes an
    input of the kernel. Whoever asks what it is gets an answer, which the recording then relies on.
    """

    def __init__(self, value: float, fetch: Fetch, guards: list[Guard]) -> None:
        self.value, self.fetch, self.guards = value, fetch, guards

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from ._tape import dispatch

        return dispatch(func, args, kwargs or {})

    def _asked(self, ask: Callable[..., Any], *others: Any) -> Any:
        answer = ask(self.value, *map(_value, others))
        self.guards.append(Guard(_later(ask, self, *others), answer))
        return answer

    def __bool__(self) -> bool:
        return bool(self._asked(bool))

    def __float__(self) -> float:
        return float(self._asked(float))

    def __int__(self) -> int:
        return int(self._asked(int))

    def __index__(self) -> int:
        return int(self._asked(operator.index))

    def __repr__(self) -> str:
        return f"Number({self.value!r})"

    __hash__ = object.__hash__


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Number) else x


def _later(function: Callable[..., Any], *operands: Any) -> Fetch:
    """`function` of what the operands are in a later step: asked for in every one, so no loops."""
    varies = any(isinstance(x, Number) and x.fetch.varies for x in operands)
    find: Callable[[Sequence[Node], int], Any]
    match operands:
        case (Number(fetch=Fetch(find=f)),):
            find = lambda nodes, i: function(f(nodes, i))  # noqa: E731
        case Number(fetch=Fetch(find=f)), Number(fetch=Fetch(find=g)):
            find = lambda nodes, i: function(f(nodes, i), g(nodes, i))  # noqa: E731
        case Number(fetch=Fetch(find=f)), x:
            find = lambda nodes, i: function(f(nodes, i), x)  # noqa: E731
        case x, Number(fetch=Fetch(find=g)):
            find = lambda nodes, i: function(x, g(nodes, i))  # noqa: E731
        case _:  # functions of numbers here have one or two
            raise AssertionError(operands)
    return Fetch(find, varies)


def _computed(function: Callable[..., Any], *operands: Any) -> Any:
    if any(isinstance(x, Tensor) for x in operands):
        return NotImplemented
    guards = next(x.guards for x in operands if isinstance(x, Number))
    return Number(function(*map(_value, operands)), _later(function, *operands), guards)


def _binary(name: str, function: Callable[..., Any]) -> None:
    setattr(Number, f"__{name}__", lambda self, other: _computed(function, self, other))
    setattr(Number, f"__r{name}__", lambda self, other: _computed(function, other, self))


def _unary(name: str, function: Callable[..., Any]) -> None:
    setattr(Number, f"__{name}__", lambda self: _computed(function, self))


def _compared(function: Callable[..., Any]) -> Callable[[Number, Any], Any]:
    def compare(self: Number, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self._asked(function, other)

    return compare


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _binary(_name, getattr(operator, _name))
for _name in ("neg", "pos", "abs"):
    _unary(_name, getattr(operator, _name))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Number, f"__{_name}__", _compared(getattr(operator, _name)))
