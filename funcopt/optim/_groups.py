"""Parameter groups: the only source of the hyperparameters of an optimizer."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor

from .._core.tensor_rule import GradientTransformation, NamedParams, PerTensor
from .._core.warning import warn
from .._hints.calls import name_caller
from .._numerics.scalars import has_schedule
from ..combinators import partition, walk
from ..engine import identical, same_structure
from ..errors import FuncoptError, HyperparameterError, StructureError
from ._factory import Factory, GroupTransformation
from ._group_keys import warn_of_suspicious
from ._options import (
    NamedParameter,
    Options,
    as_hyperparameter,
    is_immutable,
    named,
    named_parameters,
    same_value,
    slots_key,
)
from ._short_ways import shorthands_of
from ._state_layout import check_layout

CYCLED = ("momentum", "betas")
"""The keys of which `OneCycleLR` and `CyclicLR` change one."""


class Seen(NamedTuple):
    """The parameters of a group and their names, as they were."""

    params: list[Tensor]
    names: list[str] | None


class ParameterGroups:
    """Knows which transformation the values of each parameter group make.

    The groups themselves are the optimizer's, and are handed in: they may be exchanged for a step.
    Nothing is kept here but the schedules behind their values, and what can be made again.
    """

    def __init__(self, factory: Factory, who: str) -> None:
        self.factory = factory
        self.schedules: list[Options] = []  # by group
        self.who = who  # in messages
        self._transformations: dict[int, GroupTransformation] = {}  # by group
        self._seen: dict[int, Seen] = {}  # by group: its parameters, when they were last checked
        self._warned: frozenset[str] = frozenset()  # keys that were warned of
        self._warns = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transformations": {}, "_seen": {}}

    def forget(self) -> None:
        """Drops what can be made again."""
        self._transformations, self._seen = {}, {}

    def check_state(self, param_groups: list[Options], state: Mapping[Any, Any]) -> None:
        """Refuses the state of a parameter that is in no group, before it is saved.

        Raises:
            StructureError: If there is such a parameter.
        """
        self.refresh(param_groups)
        known = {id(p) for group in param_groups for p in group["params"]}
        for p in state:
            if isinstance(p, Tensor) and id(p) not in known:
                raise StructureError(
                    f"`{self.who}.state_dict`: there is state of a parameter of shape "
                    f"{tuple(p.shape)} that is in no group. `drop` takes a parameter out of both; "
                    "by hand, its state goes with `opt.state.pop(p)`."
                )

    def refresh(self, param_groups: list[Options], first: int = 0) -> None:
        """Sees to it that names and keys are those of the parameters that are in the groups now.

        Groups before the `first` are not checked.

        Whoever edits the list of parameters may leave that of the names alone: names go with the
        parameters that they belong to.

        Raises:
            StructureError: If a parameter has no name, and others have.
        """
        for index, group in enumerate(param_groups[first:], first):
            seen, params = self._seen.get(index), group["params"]
            names = group.get("param_names")
            if seen is not None and names == seen.names and identical(params, seen.params):
                continue
            if names is not None and seen is not None and names == seen.names:
                names = group["param_names"] = _names_of(params, seen)
            if names is not None and len(names) != len(params):
                raise StructureError(
                    f"`{self.who}`: parameter group {index} has {len(params)} parameters and "
                    f"{len(names)} names: a parameter that is added to `params` needs a name in "
                    "`param_names`. `add_param_group` and `drop` do both."
                )
            if seen is not None:
                self._rekey(index, group, seen)
            self._seen[index] = Seen(list(params), None if names is None else list(names))

    def replace(self, param_groups: list[Options], index: int, at: int, new: Tensor) -> None:
        """Puts a parameter in the place of another, under its name."""
        self.refresh(param_groups)
        group, seen = param_groups[index], self._seen[index]
        group["params"][at] = new
        self._seen[index] = Seen(list(group["params"]), seen.names)
        self._rekey(index, group, seen)

    def _rekey(self, index: int, group: Options, seen: Seen) -> None:
        """Gives a group the keys of the stages that are for its parameters, which were others."""
        if not self.factory.chooses:
            return
        self._transformations.pop(index, None)
        self._rename(index, group, seen)
        own = self.factory.hyperparameters(list(named_parameters(group)))
        for key, value in own.items():
            if has_schedule(value := group.setdefault(key, value)):
                self.schedules[index][key] = value

    def _rename(self, index: int, group: Options, seen: Seen) -> None:
        """Lets values go with their stages, which among other parameters have other names."""
        before: Options = {"params": seen.params}
        if seen.names is not None:
            before["param_names"] = seen.names
        was, now = (
            self.factory.field_paths(self.factory.tx, list(named_parameters(one)))
            for one in (before, group)
        )
        key_at = {path: key for key, path in was.items()}
        for values in (group, self.schedules[index]):
            moved = {k: values[key_at[at]] for k, at in now.items() if key_at.get(at) in values}
            for key in [k for k, at in was.items() if k not in now and at in now.values()]:
                values.pop(key, None)
            values.update(moved)

    def trial(self) -> "ParameterGroups":
        """Another of the same schedules, for groups that are perhaps to be: this one stays.

        It warns of nothing: no step reads these groups yet.
        """
        other = copy.copy(self)
        other.forget()
        other._warns = False
        return other

    def transformation(self, param_groups: list[Options], index: int) -> GroupTransformation:
        """The transformation of a group, made again where a value has changed."""
        group, old = param_groups[index], self._transformations.get(index)
        if old is not None and old.is_of(group):
            return old
        try:
            return self._made(param_groups, index)
        except FuncoptError as error:
            argument = getattr(error, "argument", None)
            given = group if argument in group else shorthands_of(group, argument) or group
            name_caller(error, self.who, given, f"of parameter group {index}")
            raise

    def _made(self, param_groups: list[Options], index: int) -> GroupTransformation:
        group, old = param_groups[index], self._transformations.get(index)
        schedules = self.schedules[index]
        of = list(named_parameters(group)) if old is None or old.size != len(group) else []
        before = {} if old is None else old.values
        own = self.factory.hyperparameters(of or None) if of or not before else {}
        if of:
            self._check_keys(index, group, of, own)
            self._warn(group, own)
        keys = list(before or own)
        if not group["params"]:  # it is not known whose numbers these are
            keys = [key for key in keys if key in group]
        given = {key: group[key] for key in keys if key not in schedules}
        known = old.given if old is not None and old.immutable else {}
        other = [key for key in given if key not in known or given[key] is not known[key]]
        changed = {key: as_hyperparameter(key, given[key]) for key in other}
        values = {**before, **changed, **schedules}
        immutable = all(is_immutable(given[key]) for key in other)  # the others were
        if old is not None and all(same_value(values[key], before[key]) for key in other):
            new = old._replace(values=values, given=given, immutable=immutable, size=len(group))
        else:
            tx, places = self.factory.make(values, of or None, old)
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

    def _check_keys(
        self, index: int, group: Mapping[str, Any], of: NamedParams, own: Options
    ) -> None:
        """Refuses other names of hyperparameters than `own`, those of its parameters `of`.

        Raises:
            HyperparameterError: If a key names several, or one under another key, or a scheduler
                cycles the momentum of other labels in this group.
        """
        for key in sorted(group.keys() & set(CYCLED) - own.keys()):
            if "max_momentum" in group and own.keys() & set(CYCLED):  # which schedulers put there
                raise HyperparameterError(
                    f"`{self.who}`: `{key}` was set in the parameter group {group.get('name')!r}, "
                    f"which has {sorted(own.keys() & set(CYCLED))} and does not read it. A "
                    "scheduler cycles one of the two in all groups: give it `cycle_momentum=False`."
                )
        for key in sorted(group.keys() - self.factory.hyperparameters().keys() - own.keys()):
            called = self.factory.key_of(f"{self.who}: group {index}", key, of)
            if called is not None:
                raise HyperparameterError(
                    f"`{self.who}`: parameter group {index} has the key `{key}`, which no step "
                    f"reads: the hyperparameter is called `{called}` there."
                )

    def warn_of_keys(self, group: Options) -> None:
        """Warns, once, of keys that look like one that is read."""
        self._warn(group, self.factory.hyperparameters(list(named_parameters(group)) or None))

    def _warn(self, group: Options, own: Options) -> None:
        new = group.keys() - self.factory.hyperparameters().keys() - self._warned
        if self._warns and new:
            self._warned |= warn_of_suspicious(self.who, new, own)

    def _check_structure(self, index: int, tx: GradientTransformation, first: PerTensor) -> None:
        """Refuses a group whose transformation differs from the first in structure."""
        for (path, a), (_, b) in zip(walk(first), walk(tx), strict=False):
            numbers = {*a.hyperparameters, *_fields_of_parts(a)}
            for name, value in a.__dict__.items():
                if callable(value):  # a function made again is another, and may do the same
                    continue
                if name not in numbers and value != b.__dict__.get(name):
                    raise HyperparameterError(
                        f"`{self.who}`: `{name}` of stage {'/'.join(path)} must be the "
                        f"same in all groups, got {value!r} in group 0 and "
                        f"{b.__dict__.get(name)!r} in group {index}: only hyperparameters may "
                        "differ."
                    )

    # Adding groups.

    def split(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        """The groups that are added for one: as many as there are labels in it."""
        params = group["params"]
        if not params or not self.factory.labeled:
            return [group]
        parts: dict[str, dict[str, Any]] = {}
        for x in params:
            label = _label(self.factory.tx, named(x))
            name = f"{group['name']}/{label}" if "name" in group else label
            parts.setdefault(label, {**group, "name": name, "params": []})["params"].append(x)
        return list(parts.values())

    def begin(self, group: dict[str, Any]) -> set[str]:
        """Fills in the hyperparameters of a group about to be added.

        Returns:
            The keys that the base class will also fill in, which are those of other groups.
        """
        of = [(name, p) for name, p in map(named, group["params"]) if isinstance(p, Tensor)]
        own, all_keys = self.factory.hyperparameters(of or None), self.factory.hyperparameters()
        for key in sorted(group.keys() - own.keys()) if of else ():
            called = self.factory.key_of(self.who, key, of)
            if called in group:
                raise HyperparameterError(
                    f"`{self.who}`: `{key}` and `{called}` of a parameter group name the same "
                    "hyperparameter: give it one value."
                )
            if called is not None:
                group[called] = group.pop(key)
            elif key in all_keys and self.factory.labeled:  # it is that of another label
                del group[key]
        for key in self.factory.common:
            group.pop(key, None)
        rates = [key for key in own if key.endswith("/lr")]
        if len(rates) > 1:
            warn(
                f"`{self.who}`: several stages have an `lr` for the same parameters, {rates}, so a "
                "group has no `lr` that a scheduler could set. Leave one (a fixed factor is "
                "`scale`), use schedules, or, if the stages are for different parameters, labels "
                "of a `partition`, each of which becomes a group."
            )
        self._fill(group, own, all_keys)
        self.schedules.append({k: group[k] for k in own if has_schedule(group[k])})
        return (self.factory.foreign(own) | set(CYCLED)) - group.keys()

    def _fill(self, group: Options, own: Options, all_keys: Options) -> None:
        for key, value in own.items():
            group.setdefault(key, value)
        if not has_schedule(rate := all_keys.get("lr")) and rate is not None:
            group.setdefault("lr", rate)  # schedulers want one, also where a mask leaves all out

    def settle(self, param_groups: list[Options], defaults: Options) -> None:
        """Checks groups as a whole, and leaves in `defaults` what schedulers may look for in all.

        A scheduler that cycles momentum takes what it finds in the defaults for a key of each
        group. Where one is missing there, torch's own error says so.

        Raises:
            LabelError: If a parameter has no label, or a pattern fits none.
            StructureError: If a rule keeps what no checkpoint can hold.
        """
        check_names(self.factory.tx, param_groups)
        for index, group in enumerate(param_groups):
            for name, p in list(named_parameters(group))[:1]:
                check_layout(self.transformation(param_groups, index).tx, name, p)
        if self.factory.defaults_are_arguments:
            return
        for key in CYCLED:
            if not all(key in group for group in param_groups):
                defaults.pop(key, None)
            elif param_groups:
                defaults.setdefault(key, param_groups[0][key])

    def complete(self, group: dict[str, Any], defaults: Options) -> None:
        """Fills in the keys that a group of an older checkpoint does not have."""
        own = self.factory.hyperparameters(list(named_parameters(group)) or None)
        self._fill(group, own, self.factory.hyperparameters())
        foreign = self.factory.foreign(own)
        for key, value in defaults.items():
            if key not in foreign:
                group.setdefault(key, value)

    def truncate(self, count: int) -> None:
        """Leaves the first groups."""
        del self.schedules[count:]
        self.forget()


def check_names(tx: GradientTransformation, groups: Iterable[Mapping[str, Any]]) -> None:
    """Refuses parameters that have no label, and patterns that fit none."""
    tx.check_names([x for group in groups for x in named_parameters(group)])  # type: ignore[attr-defined]


def _names_of(params: Sequence[Tensor], seen: Seen) -> list[str]:
    """The names of a list that was edited: a new parameter has that whose place it takes."""
    assert seen.names is not None
    known = dict(zip(seen.params, seen.names, strict=True))
    gone = set(seen.names) - {known[p] for p in params if p in known}
    names = []
    for p, there in zip_longest(params, seen.names[: len(params)]):
        name = known.get(p, there if there in gone else None)
        if name is not None:
            names.append(name)
    return names


def _label(tx: GradientTransformation, of: NamedParameter) -> str:
    """The labels of one parameter in all partitions of `tx`, from the outermost."""
    found = [
        label
        for _, node in walk(tx, of=[of])
        if isinstance(node, partition)
        for label in node.params_of_children([of])
    ]
    return "/".join(found)


def _fields_of_parts(node: GradientTransformation) -> set[str]:
    """The fields that hold other transformations, which are compared themselves."""
    kinds = (GradientTransformation, tuple, list, dict)
    return {k for k, v in node.__dict__.items() if isinstance(v, kinds)}
