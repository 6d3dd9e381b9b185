"""Parameter groups: the only truth for the hyperparameters of an optimizer."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from .._core.tensor_rule import GradientTransformation, PerTensor
from .._numerics.scalars import has_schedule
from ..combinators import partition, walk
from ..engine import same_structure
from ..errors import HyperparameterError
from ._factory import Factory, GroupTransformation
from ._group_keys import warn_of_suspicious
from ._options import (
    NamedParameter,
    Options,
    as_hyperparameter,
    is_immutable,
    named_parameters,
    same_value,
    slots_key,
)


class ParameterGroups:
    """Knows which transformation the values of each parameter group make.

    The groups themselves are the optimizer's, and are handed in: they may be exchanged for a step.
    Nothing is kept here but the schedules behind their values, and what can be made anew.
    """

    def __init__(self, factory: Factory, who: str) -> None:
        self.factory = factory
        self.schedules: list[Options] = []  # by group
        self.who = who  # in messages
        self._transformations: dict[int, GroupTransformation] = {}  # by group
        self._warned: frozenset[str] = frozenset()  # keys that were warned of
        self._warns = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transformations": {}}

    def forget(self) -> None:
        """Drops what can be made anew."""
        self._transformations = {}

    def trial(self) -> "ParameterGroups":
        """Another of the same schedules, for groups that are perhaps to be: this one stays.

        It warns of nothing: no step reads these groups yet.
        """
        other = copy.copy(self)
        other.forget()
        other._warns = False
        return other

    def transformation(self, param_groups: list[Options], index: int) -> GroupTransformation:
        """The transformation of a group, made anew where a value has changed."""
        group, old = param_groups[index], self._transformations.get(index)
        if old is not None and old.is_of(group):
            return old
        first, schedules = next(named_parameters(group), None), self.schedules[index]
        if self._warns and (old is None or old.size != len(group)):
            self._warn_of_keys(group, first)
        before = {} if old is None else old.values
        keys = before or self.factory.hyperparameters(first)
        given = {key: group[key] for key in keys if key not in schedules}
        known = old.given if old is not None and old.immutable else {}
        other = [key for key in given if key not in known or given[key] is not known[key]]
        changed = {key: as_hyperparameter(key, given[key]) for key in other}
        values = {**before, **changed, **schedules}
        immutable = all(is_immutable(given[key]) for key in other)  # the others were
        if old is not None and all(same_value(values[key], before[key]) for key in other):
            new = old._replace(values=values, given=given, immutable=immutable, size=len(group))
        else:
            tx, places = self.factory.make(values, first, old)
            if index and not same_structure(
                tx, first_tx := self.transformation(param_groups, 0).tx
            ):
                self._check_structure(index, tx, first_tx)
            parts = dict(zip(before, old.slots_key, strict=True)) if old else {}
            parts.update((key, slots_key(values[key])) for key in (other if parts else values))
            key = tuple(parts.values())
            size = len(group)
            new = GroupTransformation(tx, values, given, immutable, places, key, size)  # type: ignore[arg-type]
        self._transformations[index] = new
        return new

    def _warn_of_keys(self, group: Mapping[str, Any], first: NamedParameter | None) -> None:
        """Warns of keys that no step reads, where they look like one that is read."""
        new = group.keys() - self.factory.hyperparameters().keys() - self._warned
        self._warned |= warn_of_suspicious(self.who, new, self.factory.hyperparameters(first))

    def _check_structure(self, index: int, tx: GradientTransformation, first: PerTensor) -> None:
        """Refuses a group whose transformation differs from the first in more than numbers."""
        for (path, a), (_, b) in zip(walk(first), walk(tx), strict=False):
            numbers = {*a.hyperparameters, *_fields_of_parts(a)}
            for name, value in a.__dict__.items():
                if callable(value):  # a function made anew is another, and may do the same
                    continue
                if name not in numbers and value != b.__dict__.get(name):
                    raise HyperparameterError(
                        f"`{self.who}`: `{name}` of stage {'/'.join(path)} must be the "
                        f"same in all groups, got {value!r} in group 0 and "
                        f"{b.__dict__.get(name)!r} in group {index}: only numbers may differ."
                    )

    # Adding groups.

    def split(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        """The groups that are added for one: as many as there are labels in it."""
        if not isinstance(group, dict) or isinstance(group["params"], set):
            return [group]  # which the base class refuses
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        group["params"] = params
        if not params or not self.factory.labeled:
            return [group]
        parts: dict[str, dict[str, Any]] = {}
        for x in params:
            label = _label(self.factory.tx, x if isinstance(x, tuple) else (None, x))
            name = f"{group['name']}/{label}" if "name" in group else label
            parts.setdefault(label, {**group, "name": name, "params": []})["params"].append(x)
        return list(parts.values())

    def begin(self, group: dict[str, Any]) -> set[str]:
        """Fills in the hyperparameters of a group about to be added.

        Returns:
            The keys that the base class will fill in besides, which are those of other groups.
        """
        first = next(iter(group["params"]), None)
        name, p = first if isinstance(first, tuple) else (None, first)
        own = self.factory.hyperparameters((name, p) if isinstance(p, Tensor) else None)
        for key in self.factory.common:
            group.pop(key, None)
        foreign = self.factory.foreign(own) - set(group)
        for key, value in own.items():
            group.setdefault(key, value)
        self.schedules.append({k: group[k] for k in own if has_schedule(group[k])})
        return foreign

    def complete(self, group: dict[str, Any], defaults: Options) -> None:
        """Fills in the keys that a group of an older checkpoint does not have."""
        own = self.factory.hyperparameters(next(named_parameters(group), None))
        foreign = self.factory.foreign(own)
        for key, value in {**defaults, **own}.items():
            if key not in foreign:
                group.setdefault(key, value)

    def truncate(self, count: int) -> None:
        """Leaves the first groups."""
        del self.schedules[count:]
        self.forget()


def check_names(tx: GradientTransformation, groups: Iterable[Mapping[str, Any]]) -> None:
    """Refuses parameters that have no label, and patterns that fit none."""
    tx.check_names([x for group in groups for x in named_parameters(group)])  # type: ignore[attr-defined]


def _label(tx: GradientTransformation, of: NamedParameter) -> str:
    """The labels of one parameter in all partitions of `tx`, from the outermost."""
    found = [
        label
        for _, node in walk(tx, of=of)
        if isinstance(node, partition)
        for label in node.children_of(*of)
    ]
    return "/".join(found)


def _fields_of_parts(node: GradientTransformation) -> set[str]:
    """The fields that hold other transformations, which are compared themselves."""
    kinds = (GradientTransformation, tuple, list, dict)
    return {k for k, v in node.__dict__.items() if isinstance(v, kinds)}
