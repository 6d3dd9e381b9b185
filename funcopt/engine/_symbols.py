"""Symbols: what stands for tensors and scalars while a rule is traced."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.stage import Node
from ._calls import flatten_args, op_name
from ._guards import Guard, ScalarSource, Unsupported
from ._meta_inference import TensorMeta


class Symbol(Tensor):
    """A tensor of which only the metadata is known; operations on it are added to its graph."""

    stands_in = True

    graph: Any  # the `Graph`, whose module imports this one
    at: int  # the index of its value there
    meta: TensorMeta
    is_reduction: bool  # a 0-d tensor that is a sum, or another reduction, over entries

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if Opaque in types:  # which knows what can be done
            return NotImplemented
        return dispatch(func, args, kwargs or {})


class SlotChoice(NamedTuple):
    """A slot that is one of two, by a flag that is computed of scalars."""

    flag: Symbol
    yes: "int | SlotChoice"
    no: "int | SlotChoice"


class Opaque(Tensor):
    """A slot of another shape than its parameter, which only a rule that sees it whole can take."""

    stands_in = True

    graph: Any  # that of its parameter
    source: "int | SlotChoice"  # a role, or one of two others

    @classmethod
    def of(cls, graph: Any, source: "int | SlotChoice") -> "Opaque":
        """That of a role, or a choice."""
        made: Opaque = torch.empty((), device="meta").as_subclass(cls)
        made.graph, made.source = graph, source
        return made

    @property
    def role(self) -> int:
        """Its role, if it was not chosen."""
        if isinstance(self.source, SlotChoice):
            raise Unsupported("a slot that is chosen, and not stored but read")
        return self.source

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.where and all(isinstance(x, cls) for x in args[1:]):
            flag, yes, no = args
            graph = yes.graph
            flag = flag if isinstance(flag, Symbol) else graph.flag_of(flag)
            return cls.of(graph, SlotChoice(flag, yes.source, no.source))
        raise Unsupported(f"`{op_name(func)}` of a slot that is not shaped like its parameter")


def dispatch(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Traces a call of `func`, of which an argument is a symbol."""
    symbol = next((x for x in flatten_args((args, kwargs)) if isinstance(x, Symbol)), None)
    if symbol is None:
        raise Unsupported(f"`{op_name(func)}` of scalars only")
    return symbol.graph.call_function(func, args, kwargs)


class ScalarSymbol:
    """A Python number that may have another value in the next step.

    Arithmetic with other numbers gives scalar symbols, which are computed in float64 in every step.
    Where one meets a tensor it becomes a scalar input of the graph. Control flow reads its value,
    and adds a guard that the value stays the same.
    """

    stands_in = True

    def __init__(self, value: float, source: ScalarSource, guards: list[Guard]) -> None:
        self.value, self.source, self.guards = value, source, guards

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})

    def guarded(self, function: Callable[..., Any], *others: Any) -> Any:
        """The value of `function` of it, and of other numbers, which becomes a guard."""
        value = function(self.value, *map(_value, others))
        self.guards.append(Guard(_deferred(function, self, *others), value))
        return value

    def __bool__(self) -> bool:
        return bool(self.guarded(bool))

    def __float__(self) -> float:
        return float(self.guarded(float))

    def __int__(self) -> int:
        return int(self.guarded(int))

    def __index__(self) -> int:
        return int(self.guarded(operator.index))

    def __repr__(self) -> str:
        return f"ScalarSymbol({self.value!r})"

    __hash__ = object.__hash__


def _value(x: Any) -> Any:
    return x.value if isinstance(x, ScalarSymbol) else x


def _deferred(function: Callable[..., Any], *operands: Any) -> ScalarSource:
    """`function` of the operands' values in a later step: read in every one, so no loops."""
    sources = [x.source for x in operands if isinstance(x, ScalarSymbol)]
    per_tensor = any(source.per_tensor for source in sources)
    known = [source.of for source in sources if source.of is not None]
    of = frozenset[int]().union(*known) if len(known) == len(sources) else None
    read: Callable[[Sequence[Node], int], Any]
    match operands:
        case (ScalarSymbol(source=ScalarSource(read=f)),):
            read = lambda nodes, i: function(f(nodes, i))  # noqa: E731
        case ScalarSymbol(source=ScalarSource(read=f)), ScalarSymbol(source=ScalarSource(read=g)):
            read = lambda nodes, i: function(f(nodes, i), g(nodes, i))  # noqa: E731
        case ScalarSymbol(source=ScalarSource(read=f)), x:
            read = lambda nodes, i: function(f(nodes, i), x)  # noqa: E731
        case x, ScalarSymbol(source=ScalarSource(read=g)):
            read = lambda nodes, i: function(x, g(nodes, i))  # noqa: E731
        case _:  # operators have one operand or two
            raise AssertionError(operands)
    return ScalarSource(read, per_tensor, of)


def _arithmetic(function: Callable[..., Any], *operands: Any) -> Any:
    if any(isinstance(x, Tensor) for x in operands):
        return NotImplemented
    guards = next(x.guards for x in operands if isinstance(x, ScalarSymbol))
    value = function(*map(_value, operands))
    return ScalarSymbol(value, _deferred(function, *operands), guards)


def _binary(name: str, function: Callable[..., Any]) -> None:
    setattr(ScalarSymbol, f"__{name}__", lambda self, other: _arithmetic(function, self, other))
    setattr(ScalarSymbol, f"__r{name}__", lambda self, other: _arithmetic(function, other, self))


def _unary(name: str, function: Callable[..., Any]) -> None:
    setattr(ScalarSymbol, f"__{name}__", lambda self: _arithmetic(function, self))


def _comparison(function: Callable[..., Any]) -> Callable[[ScalarSymbol, Any], Any]:
    def compare(self: ScalarSymbol, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self.guarded(function, other)

    return compare


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _binary(_name, getattr(operator, _name))
for _name in ("neg", "pos", "abs"):
    _unary(_name, getattr(operator, _name))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ScalarSymbol, f"__{_name}__", _comparison(getattr(operator, _name)))
