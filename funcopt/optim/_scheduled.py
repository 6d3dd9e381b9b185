"""Hyperparameters that follow schedules: groups show their values, and they cannot be set."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..errors import HyperparameterError
from ._groups import ParameterGroups
from ._options import Options, evaluate_schedule, same_value
from ._state import State, StateStore


class ScheduledValues:
    """Writes into groups the values that the next update will use, and tells if they were set."""

    def __init__(self, groups: ParameterGroups, store: StateStore, who: str) -> None:
        self._groups, self._store, self._who = groups, store, who
        self._shown: list[Options] = []  # by group: the values last written there

    def show(
        self, param_groups: list[Options], state: State, index: int, updates: Tensor | None
    ) -> None:
        """Writes the current values of schedules into a group."""
        while len(self._shown) <= index:
            self._shown.append({})
        now = self._current(param_groups, state, index, updates)
        param_groups[index].update(now)
        self._shown[index].update(now)

    def see_updates(
        self, param_groups: list[Options], state: State, updates: Tensor | float
    ) -> bool:
        """Whether schedules see the updates of the optimizer: no stage of theirs counts itself."""
        each = enumerate(self._groups.schedules)
        asked = (self._store.counts(param_groups, state, k, updates) for k, own in each if own)
        return all(x is updates for counts in asked for x in counts.values())

    def show_after(
        self, param_groups: list[Options], updates: float
    ) -> Iterator[tuple[int, str, Any]]:
        """The same as `show` for all groups, where that is so: which group, key and value."""
        for index, schedules in enumerate(self._groups.schedules):
            for key, value in schedules.items():
                now = self._evaluated(index, key, value, updates)
                param_groups[index][key] = self._shown[index][key] = now
                yield index, key, now

    def are_shown(self, param_groups: list[Options]) -> bool:
        """Whether groups have the very values that were written there."""
        each = zip(param_groups, self._groups.schedules, self._shown, strict=True)
        return all(group.get(k) is shown[k] for group, own, shown in each for k in own)

    def accept(self, param_groups: list[Options]) -> None:
        """Takes what stands in groups, after loading, as written here."""
        each = zip(param_groups, self._groups.schedules, self._shown, strict=True)
        for group, schedules, shown in each:
            shown.update({key: group[key] for key in schedules})

    def truncate(self, count: int) -> None:
        """Leaves the first groups."""
        del self._shown[count:]

    def check(self, param_groups: list[Options], state: State) -> None:
        """Refuses a value that was set where a schedule says what it is.

        What was written last may be another's: groups and state can be exchanged for a step.
        """
        each = zip(self._groups.schedules, self._shown, strict=True)
        for index, (schedules, shown) in enumerate(each):
            group = param_groups[index]
            if "lr" in schedules and "initial_lr" in group:
                raise HyperparameterError(
                    f"`{self._who}`: a scheduler has been put on parameter group {index}, whose "
                    f"`lr` follows {schedules['lr']!r}. Use the schedule or a scheduler, not both."
                )
            other = [k for k in schedules if k in shown and not same_value(group[k], shown[k])]
            if not other:
                continue
            updates = self._store.updates(param_groups, state)
            now = self._current(param_groups, state, index, updates)
            for key in other:
                if not _equal(group[key], now[key]):
                    raise HyperparameterError(
                        f"`{self._who}`: `{key}` of parameter group {index} follows "
                        f"{schedules[key]!r} and cannot be set, got {group[key]!r}. Use the "
                        "schedule or a scheduler, not both."
                    )

    def _current(
        self, param_groups: list[Options], state: State, index: int, updates: Any
    ) -> Options:
        """The values of a group's schedules that the next update will use."""
        schedules = self._groups.schedules[index]
        counts = self._store.counts(param_groups, state, index, updates) if schedules else {}
        found: Options = {}
        for key, value in schedules.items():
            found[key] = self._evaluated(index, key, value, counts.get(key, updates))
        return found

    def _evaluated(self, index: int, key: str, value: Any, count: Any) -> Any:
        try:
            return evaluate_schedule(value, count)
        except HyperparameterError as error:
            where = f"`{self._who}`: `{key}` of parameter group {index}"
            raise HyperparameterError(f"{where}: {error}") from error


def _equal(a: Any, b: Any) -> bool:
    """Whether two values are equal; tensors are read."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return same_value(*(x.item() if isinstance(x, Tensor) else x for x in (a, b)))
