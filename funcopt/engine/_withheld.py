"""A step count that is withheld, which shows whether a rule asks for it."""

from collections.abc import Mapping
from typing import Any

from ..typing import Memory
from ._noted_numbers import leaves_of


class Withheld:
    """A whole number with which nothing can be done."""

    __slots__ = ()

    def _fail(self, *given: Any) -> Any:
        raise TypeError("a count that is withheld")


_OF_OBJECTS = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
_OF_OBJECTS |= {"__hash__", "__repr__", "__str__", "__format__"}

for _name in vars(int).keys() - vars(object).keys() | _OF_OBJECTS:
    if _name.startswith("__"):
        setattr(Withheld, _name, Withheld._fail)


def prepared_of_no_step(rule: Any, memory: Memory) -> Mapping[str, Any] | None:
    """What a rule prepares in every step; `None` if it asks for the count.

    Or if it makes more than numbers and words, which may be others, or hold the count.
    """
    try:
        made = rule.prepare(Withheld(), memory)
        parts = leaves_of(list(made.values()))
    except Exception:
        return None
    return made if all(x is None or isinstance(x, (int, float, str)) for x in parts) else None
