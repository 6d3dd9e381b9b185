"""Recording: what a rule does to one tensor, whichever, written down as it does it."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.stage import Node
from ._guards import Guard, ScalarSource, Unsupported, constant_source
from ._meta_inference import Inferred, TensorMeta, infer

EXPONENTS = frozenset({"pow", "__pow__", "float_power"})
"""Functions whose second argument makes a difference of what is to be computed."""


class Ref(NamedTuple):
    """A value of a tape, as an argument."""

    at: int


class Input(NamedTuple):
    """A tensor that the recorded function is given."""

    role: int
    dtype: torch.dtype


class Entry(NamedTuple):
    """A number that it is given, in the row of the numbers."""

    place: int


class Call(NamedTuple):
    """A function of torch, and what it was given."""

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]

    @property
    def refs(self) -> list[Ref]:
        """The values that it needs."""
        return [x for x in _flat((self.args, dict(self.kwargs))) if isinstance(x, Ref)]


class Symbol(Tensor):
    """A tensor of which only the dtype is known, as a vector; what is done with it is recorded."""

    tape: "Tape"
    at: int
    meta: TensorMeta
    vector: bool  # else a number
    reduced: bool  # and that number is a sum over entries

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def dispatch(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs `func`, of which an argument is being recorded."""
    symbol = next((x for x in _flat((args, kwargs)) if isinstance(x, Symbol)), None)
    if symbol is None:
        raise Unsupported(f"`{name_of(func)}` of numbers alone")
    return symbol.tape.call(func, args, kwargs)


class Number:
    """A Python number that may be another in the next step.

    With other numbers it makes numbers, in float64 as ever. Where it meets a tensor it becomes an
    input of the kernel. Whoever asks what it is gets an answer, which the recording then relies on.
    """

    def __init__(self, value: float, fetch: ScalarSource, guards: list[Guard]) -> None:
        self.value, self.fetch, self.guards = value, fetch, guards

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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


def _later(function: Callable[..., Any], *operands: Any) -> ScalarSource:
    """`function` of what the operands are in a later step: asked for in every one, so no loops."""
    varies = any(isinstance(x, Number) and x.fetch.per_tensor for x in operands)
    find: Callable[[Sequence[Node], int], Any]
    match operands:
        case (Number(fetch=ScalarSource(read=f)),):
            find = lambda nodes, i: function(f(nodes, i))  # noqa: E731
        case Number(fetch=ScalarSource(read=f)), Number(fetch=ScalarSource(read=g)):
            find = lambda nodes, i: function(f(nodes, i), g(nodes, i))  # noqa: E731
        case Number(fetch=ScalarSource(read=f)), x:
            find = lambda nodes, i: function(f(nodes, i), x)  # noqa: E731
        case x, Number(fetch=ScalarSource(read=g)):
            find = lambda nodes, i: function(x, g(nodes, i))  # noqa: E731
        case _:  # functions of numbers here have one or two
            raise AssertionError(operands)
    return ScalarSource(find, varies)


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


class Tape:
    """What is done to one tensor in a step, up to now.

    `wide` is the dtype in which it is computed, and that of the row of numbers, which are on the
    CPU or on the `device` of the tensor.
    """

    def __init__(self, wide: torch.dtype, device: torch.device) -> None:
        self.wide, self.device = wide, device
        self.values: list[Input | Entry | Call | Any] = []
        self.fetches: list[ScalarSource] = []  # of every number in the row
        self.guards: list[Guard] = []
        self.scaled = False  # whether a sum was multiplied by a number
        self._known: dict[Any, Symbol] = {}

    def input(self, role: int, dtype: torch.dtype) -> Symbol:
        """A tensor that will be passed in, in its own dtype."""
        return self._symbol(Input(role, dtype), TensorMeta(dtype, True))

    def number(self, fetch: ScalarSource, key: Any = None) -> Symbol:
        """A 0-d tensor that will be in the row of numbers."""
        if key is not None and key in self._known:
            return self._known[key]
        self.fetches.append(fetch)
        place = Entry(len(self.fetches) - 1)
        made = self._symbol(place, TensorMeta(self.wide, False))
        if key is not None:
            self._known[key] = made
        return made

    def flag(self, fetch: ScalarSource) -> Any:
        """A 0-d tensor of bool that will be in the row of numbers."""
        return self.number(fetch) != 0

    def is_nothing(self, x: Symbol) -> bool:
        """Whether `x` is minus zero everywhere, which changes nothing where it is added."""
        made = self.values[x.at]
        if not isinstance(made, Call) or made.func is not torch.full_like:
            return False
        fill = made.args[1] if len(made.args) > 1 else None
        return isinstance(fill, float) and fill == 0 and math.copysign(1.0, fill) < 0

    def apart(self, x: Any) -> Any:
        """`x`, not as an input, which may have been written to before it is read.

        Multiplied by a one that compilers do not know of: they leave out a `clone`, and then store
        what the input has become (Inductor of torch 2.13).
        """
        if not isinstance(self.values[x.at], Input):
            return x
        if not x.meta.dtype.is_floating_point:
            raise Unsupported("an input of whole numbers that is stored elsewhere")
        return x * self.number(constant_source(1.0), ("constant", "1.0"))

    def _symbol(self, value: Any, meta: TensorMeta, reduced: bool = False) -> Symbol:
        self.values.append(value)
        made: Symbol = meta.example().as_subclass(Symbol)
        made.tape, made.at, made.meta = self, len(self.values) - 1, meta
        made.vector, made.reduced = meta.is_vector, reduced
        return made

    def call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = name_of(func)
        if name == "__get__":
            return _attribute(func, args)
        if name in PLAIN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if (name.endswith("_") and not name.endswith("__")) or "out" in kwargs:
            raise Unsupported(f"`{name}`, which changes a tensor in place")
        given = [x for x in _flat((args, kwargs)) if isinstance(x, Symbol)]
        if name == "clone":  # nothing is changed in place
            return given[0]
        if any(x.tape is not self for x in given):
            raise Unsupported(f"`{name}` of two tensors of the parameters")
        if sums := [x for x in given if x.reduced]:
            scaled = name in SCALING and len(sums) == 1 and not any(x.vector for x in given)
            if name not in SHAPELESS and not scaled:
                raise Unsupported(f"`{name}` of a sum within one tensor")
            self.scaled |= scaled
        floating = any(x.meta.dtype.is_floating_point for x in given)
        if name in DIVIDING and floating and len(args) == 2 and not kwargs:
            inverse = self._inverse(args[1])
            if inverse is not None:
                func, name, args = Tensor.mul, "mul", (args[0], inverse)
        made = Inferred()
        for lift in (True, False):  # as numbers of the row, or, where only these can be, as numbers
            seen = self._lifted((tuple(args), kwargs), lift, floating, name)
            made = infer(func, *_formed(seen))
            if not made.error:
                break
        else:
            raise Unsupported(f"`{name}`: {made.error}")
        symbols = [x for x in _flat(seen) if isinstance(x, Symbol)]
        if made.argument is not None:
            return symbols[made.argument]
        assert made.meta is not None
        shrunk = not made.meta.is_vector and any(x.vector or x.reduced for x in given)
        call = Call(
            func,
            _referring(seen[0]),
            tuple((k, _referring(v)) for k, v in seen[1].items()),
        )
        return self._symbol(call, made.meta, shrunk)

    def _inverse(self, x: Any) -> Any:
        """What to multiply by instead of dividing by the number `x`: many times as fast."""
        if isinstance(x, Number) and x._asked(_is_invertible):
            return 1.0 / x  # type: ignore[operator]  # a number of the same kind
        return 1 / x if isinstance(x, float) and _is_invertible(x) else None

    def _lifted(self, x: Any, lift: bool, floating: bool, name: str) -> Any:
        """An argument as `func` is to see it: numbers that may change as tensors."""
        if isinstance(x, dict):
            return {k: self._lifted(v, lift, floating, name) for k, v in x.items()}
        if isinstance(x, (tuple, list)):
            keep = name in EXPONENTS
            return tuple(
                v
                if keep and i and isinstance(v, (int, float))
                else self._lifted(v, lift, floating, name)
                for i, v in enumerate(x)
            )
        if isinstance(x, Symbol):
            return x
        if isinstance(x, Number):
            return self.number(x.fetch, id(x.fetch)) if lift else _plain(x)
        if isinstance(x, float) or (type(x) is int and name in ARITHMETIC):
            if not lift or not floating:
                return x
            return self.number(constant_source(x), ("constant", repr(x)))
        if isinstance(x, Tensor):
            near = x.device.type == "cpu" or x.device == self.device
            if not x.dim() and near and lift and x.is_floating_point():
                return self.number(constant_source(x))
            if not x.dim() and near and lift and x.dtype is torch.bool:
                return self.flag(constant_source(x))
            raise Unsupported(f"`{name}` of a tensor that no stage has been given")
        return x


ARITHMETIC = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "true_divide",
        "rsub",
        "__rsub__",
        "__rdiv__",
        "lerp",
        "maximum",
        "minimum",
    ]
)
"""Functions of which an integer is a number like others, and no dimension."""

DIVIDING = frozenset({"div", "true_divide", "__truediv__"})

SHAPELESS = frozenset({"reshape", "to", "float", "double"})
"""What may be done with a sum, since it can be done with the sums of the parts as well."""

SCALING = frozenset({"mul", "neg"})
"""What may be done with a sum and numbers, for the same reason; not with a maximum."""

PLAIN = frozenset({"is_floating_point", "is_complex"})


def _attribute(func: Any, args: Sequence[Any]) -> Any:
    name = func.__self__.__name__
    if name not in ("dtype", "device", "layout", "requires_grad", "is_sparse", "is_meta"):
        raise Unsupported(f"`{name}` of a tensor")
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args)


def _is_invertible(x: float) -> bool:
    """Whether both `x` and its inverse are normal numbers in every dtype that is computed in."""
    return 2.0**-126 <= abs(x) <= 2.0**126


def _plain(x: Number) -> Any:
    return int(x) if isinstance(x.value, int) else float(x)


def name_of(func: Any) -> str:
    return getattr(func, "__name__", repr(func))


def _flat(x: Any) -> list[Any]:
    if isinstance(x, dict):
        return [y for v in x.values() for y in _flat(v)]
    if isinstance(x, (tuple, list)) and not isinstance(x, Ref):
        return [y for v in x for y in _flat(v)]
    return [x]


def _formed(x: Any) -> Any:
    if isinstance(x, Symbol):
        return x.meta
    if isinstance(x, dict):
        return {k: _formed(v) for k, v in x.items()}
    return tuple(map(_formed, x)) if isinstance(x, (tuple, list)) else x


def _referring(x: Any) -> Any:
    if isinstance(x, Symbol):
        return Ref(x.at)
    return tuple(map(_referring, x)) if isinstance(x, (tuple, list)) else x
