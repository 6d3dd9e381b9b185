"""Numbers of memory in a recorded step: of Python, in the place of 0-d tensors in float64.

What a rule prepares of them is the same, as long as Python and torch round the same. Where a rule
does something else with one, or returns one in the place of a number, its step is not the recorded
one.
"""

import operator
from collections.abc import Callable
from typing import Any

from ..typing import Memory
from ._guards import GuardFailed


class Wide:
    """A number in float64, with the operations that are the same in Python and in torch."""

    __slots__ = ("value",)
    __hash__ = object.__hash__

    def __init__(self, value: float) -> None:
        self.value = value

    def __neg__(self) -> "Wide":
        return Wide(-self.value)

    def __abs__(self) -> "Wide":
        return Wide(abs(self.value))

    def __pow__(self, exponent: Any) -> "Wide":
        if exponent not in (0, 1, 2):  # others are rounded otherwise by torch
            return NotImplemented
        return Wide((1.0, self.value, self.value * self.value)[int(exponent)])


def _operation(name: str, makes: Callable[[Any], Any], turned: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def operate(self: Wide, other: Any) -> Any:
        if type(other) is Wide:
            other = other.value
        elif not isinstance(other, (int, float)):
            return NotImplemented
        return makes(function(other, self.value) if turned else function(self.value, other))

    return operate


for _name in ("add", "sub", "mul", "truediv"):
    setattr(Wide, f"__{_name}__", _operation(_name, Wide))
    setattr(Wide, f"__r{_name}__", _operation(_name, Wide, turned=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Wide, f"__{_name}__", _operation(_name, bool))


def prepared_of_wide(rule: Any, step: Any, memory: Memory) -> Any:
    """What a rule prepares of such memory.

    Raises:
        GuardFailed: If it fails. Whether it does so of tensors, these show.
    """
    try:
        return rule.prepare(step, memory)
    except Exception as error:
        raise GuardFailed from error


def kinds(x: Any) -> Any:
    """Which parts of a value are such numbers."""
    return tuple(map(kinds, x)) if isinstance(x, (tuple, list)) else isinstance(x, Wide)


def has_wide(x: Any) -> bool:
    """Whether some part is."""
    return any(map(has_wide, x)) if isinstance(x, (tuple, list)) else isinstance(x, Wide)


def as_before(x: Any, before: Any) -> Any:
    """A value in numbers of Python.

    Raises:
        GuardFailed: If other parts of it were such numbers: kernels are of these.
    """
    if isinstance(before, bool):
        if (type(x) is Wide) is not before:
            raise GuardFailed
        return x.value if before else x
    if len(before) != len(x):
        raise GuardFailed
    return tuple(map(as_before, x, before))
