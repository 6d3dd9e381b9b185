"""Numbers that note what is made of them, line by line: those of a recorded step."""

import math
import operator
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol

import torch

from .._core.record import unchecked, values_equal
from .._numerics.scalars import at
from ._guards import Unsupported
from ._wide_numbers import Wide, as_before, prepared_of_wide


class Notes(Protocol):
    """Whoever notes what is made of numbers."""

    lines: "Lines"

    def line(
        self,
        text: str,
        needs: "Sequence[Number]",
        value: Any,
        whole: bool = False,
        wide: bool = False,
    ) -> "Number":
        """What is made of numbers."""
        ...

    def decide(self, flag: "Number") -> bool:
        """Which way is taken."""
        ...

    def text(self, x: Any) -> str:
        """How a program has a value."""
        ...


class Number:
    """A number that is another in every step; what is made of it becomes a line.

    One that stands for a number in a tensor, a `whole` one or a `wide` one, that is of float64,
    only takes part in what is the same for a number of Python.
    """

    stands_in = True

    def __init__(self, of: Notes, name: str, value: Any, whole: bool, wide: bool = False) -> None:
        self.of, self.name, self.value, self.whole, self.wide = of, name, value, whole, wide

    def __bool__(self) -> bool:
        return self.of.decide(self)

    def __ceil__(self) -> "Number":
        if self.wide:
            raise Unsupported("a number of memory that is rounded")
        return self.of.line(f"ceil({self.name})", [self], math.ceil(self.value), self.whole)

    def passed_to(self, schedule: Callable[[Any], Any]) -> "Number":
        """The value of a schedule at this count, which is not asked for it now."""
        text = f"at({self.of.lines.constant(schedule)}, {self.name})"
        return self.of.line(text, [self], None)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is torch.full and (options["dtype"], options["device"]) == (torch.float64, None):
            x = args[1]
            return x.of.line(f"float({x.name})", [x], None, wide=True)
        raise Unsupported("a count that meets a tensor")

    def _no_value(self) -> Any:
        raise Unsupported("the value of a count")

    __float__ = __int__ = __index__ = _no_value
    __hash__ = object.__hash__


def _operate(symbol: str, function: Callable[..., Any], *operands: Any) -> Any:
    """An operation of Python on numbers, at least one of which is another in every step."""
    numbers = [x for x in operands if isinstance(x, Number)]
    whole = any(x.whole for x in numbers)
    if not all(isinstance(x, (Number, int, float)) for x in operands):
        raise Unsupported("a count that meets a tensor")
    wide = any(x.wide for x in numbers)
    if wide and symbol in ("//", "%", "**"):
        raise Unsupported("a number of memory that torch rounds otherwise")
    if whole and (symbol in ("/", "**") or not all(map(_is_whole, operands))):
        raise Unsupported("a count that becomes a fraction")  # in another dtype than Python's
    of = numbers[0].of
    values = [x.value if isinstance(x, Number) else x for x in operands]
    value = None if None in values else function(*values)
    texts = [of.text(x) for x in operands]
    return of.line(f" {symbol} ".join(texts), numbers, value, whole, wide)


def _is_whole(x: Any) -> bool:
    return x.whole if isinstance(x, Number) else isinstance(x, int)


def _binary(name: str, symbol: str) -> None:
    function = getattr(operator, name)
    left = lambda self, other: _operate(symbol, function, self, other)  # noqa: E731
    right = lambda self, other: _operate(symbol, function, other, self)  # noqa: E731
    setattr(Number, f"__{name}__", left)
    if name in ARITHMETIC:
        setattr(Number, f"__r{name}__", right)


ARITHMETIC = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

for _name, _symbol in (ARITHMETIC | COMPARISONS).items():
    _binary(_name, _symbol)


class Lines:
    """What was noted, by its text: the same in all ways."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # of each line
        self.text: dict[str, str] = {}  # by name
        self.needs: dict[str, list[str]] = {}  # the names in each line
        self.constants: dict[str, Any] = {
            "at": at, "ceil": math.ceil, "unchecked": unchecked,
            "Wide": Wide, "prepared_of_wide": prepared_of_wide, "as_before": as_before,
        }  # fmt: skip
        self._constant_names: dict[int, str] = {}
        self._fixed: dict[Any, Any] = {}
        self._rules: list[Any] = []

    def constant(self, x: Any) -> str:
        """The name of an object."""
        if id(x) not in self._constant_names:
            name = f"c{len(self._constant_names)}"
            self._constant_names[id(x)], self.constants[name] = name, x
        return self._constant_names[id(x)]

    def rule(self, rule: Any, numbers: Container[str]) -> str:
        """The name of a rule, whose fields that are `numbers` are given where it is used."""
        for known in self._rules:
            fields = [] if type(known) is not type(rule) else vars(rule).items()
            same = [values_equal(x, getattr(known, k)) for k, x in fields if k not in numbers]
            if fields and all(same):
                return self.constant(known)
        self._rules.append(rule)
        return self.constant(rule)

    def fixed(self, key: Any, x: Any) -> str:
        """The name of what is the same in all steps, whatever is decided, by a key."""
        if self._fixed.setdefault(key, x) != x:
            raise Unsupported("scalars that depend on a choice")
        return self.constant(self._fixed[key])

    def line(self, text: str, needs: Iterable[str]) -> str:
        """The name of a line."""
        if text not in self.names:
            name = self.names[text] = f"v{len(self.names)}"
            self.text[name], self.needs[name] = text, list(needs)
        return self.names[text]


def leaves_of(x: Any) -> list[Any]:
    """What a value is made of."""
    return [y for part in x for y in leaves_of(part)] if isinstance(x, (tuple, list)) else [x]


def mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """A function of the numbers that a value is made of."""
    if isinstance(x, Number):
        return function(x)
    if not isinstance(x, (tuple, list)):
        return x
    made = [mapped(function, part) for part in x]
    return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)


def numbers_in(x: Any) -> list[Number]:
    return [y for y in leaves_of(x) if isinstance(y, Number)]


def has_number(x: Any) -> bool:
    if isinstance(x, (tuple, list, dict)):
        return any(map(has_number, x.values() if isinstance(x, dict) else x))
    return isinstance(x, Number)
