"""Values that a scheduler sets before every step, passed on to kernels without a transformation.

To make one takes longer than a small step. So it is made once of numbers that note what they are
compared with, and where they arrive. Others that compare the same way arrive there, too.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..engine import GivenValues, ReadyKernels, changed_values
from ._groups import ParameterGroups
from ._options import Options
from ._step_plan import StepPlan

Numbers = tuple[float, ...]

Keys = list[tuple[str, int | None]]
"""Keys of a group, and of how many numbers the value is a tuple, if it is one."""

PATIENCE = 16
"""So often it is found out for a group where values arrive, which takes as long as some steps."""

NEARBY = 1 - 2.0**-20
"""What is computed of a number is another for one that is less by this factor."""


class _LookedAt(Exception):
    """Something is made of a number."""


class Condition(NamedTuple):
    """How a number compared with another one."""

    compare: Callable[[Any, Any], bool]
    place: int
    other: Any  # a constant, or the place of a number
    is_place: bool
    outcome: bool

    def holds(self, numbers: Numbers) -> bool:
        """Whether these compare the same way."""
        other = numbers[self.other] if self.is_place else self.other
        return self.compare(numbers[self.place], other) is self.outcome


class Watched(float):
    """A number that notes what it is compared with, and can be passed on; nothing else."""

    place: int
    noted: list[Condition]

    def __new__(cls, value: float, place: int, noted: list[Condition]) -> "Watched":
        made = super().__new__(cls, value)
        made.place, made.noted = place, noted
        return made

    def __bool__(self) -> bool:
        return bool(self != 0.0)


def _noting(name: str) -> Callable[[Watched, Any], bool]:
    compare, of_floats = getattr(operator, name.strip("_")), getattr(float, name)

    def method(self: Watched, other: Any) -> bool:
        if type(other) not in (int, float, Watched):
            raise _LookedAt
        outcome: bool = of_floats(self, other)
        is_place = type(other) is Watched
        known = other.place if is_place else other
        self.noted.append(Condition(compare, self.place, known, is_place, outcome))
        return outcome

    return method


def _refuse(*given: Any) -> Any:
    raise _LookedAt


for _name in vars(float):
    if _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
        setattr(Watched, _name, _noting(_name))
    elif callable(getattr(float, _name)) and _name not in ("__getattribute__", *vars(Watched)):
        setattr(Watched, _name, _refuse)


class _Passed(NamedTuple):
    """Where the values of some keys of a group arrive, in this order."""

    keys: Keys
    conditions: Sequence[Condition]
    places: Sequence[tuple[int, int]]  # which number, and where kernels are given it


class PassedValues:
    """Passes on values of groups to the kernels of a ready step, if these alone have changed."""

    def __init__(self, groups: ParameterGroups, plan: StepPlan, kernels: ReadyKernels) -> None:
        self._groups, self._plan, self._kernels = groups, plan, kernels
        self._known: dict[int, _Passed] = {}  # by group
        self._given: GivenValues | None = None
        self._left = PATIENCE * len(set(plan.group_of))

    def forget(self) -> None:
        """Others than these keys may have other values now."""
        self._known = {}

    def take(self, param_groups: list[Options], changes: Sequence[tuple[int, str, Any]]) -> bool:
        """Passes them on: index of the group, key and value of each.

        Returns:
            Whether that is all there is to do; else nothing is done.
        """
        given = self._kernels.given
        if given is None:
            return False
        if given is not self._given:
            self._given, self._known = given, {}
        keys: dict[int, Keys] = {}
        numbers: dict[int, Numbers] = {}
        for index, key, value in changes:
            own = value if type(value) is tuple else (value,)
            if not all(type(x) is float for x in own):
                return False
            keys.setdefault(index, []).append((key, None if own is not value else len(own)))
            numbers[index] = (*numbers.get(index, ()), *own)
        written = []
        for index, them in keys.items():
            known, own = self._passed(param_groups, index, them), numbers[index]
            if known is None or not all(x.holds(own) for x in known.conditions):
                return False
            written += [(at, own[k]) for k, at in known.places]
        for at, x in written:
            given.numbers[at] = x
        return True

    def _passed(self, param_groups: list[Options], index: int, keys: Keys) -> _Passed | None:
        """Where these keys arrive; the values of the others are those that they had then."""
        known = self._known.pop(index, None)
        if known is None or known.keys != keys:
            self._left -= 1
            known = self._found(param_groups, index, keys) if self._left > 0 else None
        if known is not None:
            self._known[index] = known
        return known

    def _found(self, param_groups: list[Options], index: int, keys: Keys) -> _Passed | None:
        given, noted = self._given, list[Condition]()
        assert given is not None
        watched: list[Watched] = []
        try:
            before = self._groups.transformation(param_groups, index)
            values = dict(before.values)
            for key, size in keys:
                value = before.given[key]
                for x in (value,) if size is None else value:
                    watched.append(Watched(x * NEARBY, len(watched), noted))
                    noted.append(Condition(operator.eq, watched[-1].place, 0.0, False, x == 0.0))
                own = tuple(watched[len(watched) - (size or 1) :])
                values[key] = own[0] if size is None else own
            tx, _ = self._groups.factory.make(values, None, before)
        except Exception:  # of numbers that are none, or that are refused
            return None
        conditions = list(dict.fromkeys(noted))
        changed = changed_values(before.tx, tx)
        if changed is None or not changed <= set(given.fields):
            return None
        place_of = {id(x): x.place for x in watched}
        places = []
        for at, (x, y) in enumerate(zip(given.of(tx), given.of(before.tx), strict=True)):
            if id(x) in place_of:
                places.append((place_of[id(x)], at))
            elif x is not y and (type(x) is not float or x != y):
                return None
        buckets = [k for k, j in enumerate(self._kernels.used) if self._plan.group_of[j] == index]
        here = [(k, at + b * given.size) for b in buckets for k, at in places]
        return _Passed(keys, conditions, here)
