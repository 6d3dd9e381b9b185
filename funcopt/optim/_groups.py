"""Parameter groups: the only truth for the numbers of an optimizer."""

import functools
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.tensor_rule import GradientTransformation, PerTensor, TensorRule
from .._numerics.scalars import has_schedule
from ..combinators import Place, chain, changed, hyperparams, partition, places, walk, whole
from ..engine import same_form
from ..errors import HyperparameterError, StructureError
from ._group_keys import warn_of_suspicious
from ._hooks import Watched
from ._layout import TRAIN_MODE, UPDATES, clock_dtype
from ._values import Values, as_scalar, evaluated, is_fixed, kind, same

Named = tuple[str | None, Tensor]
"""A parameter, and its name if it is known."""


class Made(NamedTuple):
    """The transformation made of a group's values."""

    values: Values
    tx: PerTensor
    kind: tuple[Any, ...]  # what of the values decides which slots there are
    seen: Values  # what stood in the group; schedules do not
    fixed: bool  # whether nobody can write into these
    places: Mapping[str, Place]  # where in `tx` the values are
    size: int  # how many keys the group had

    def is_of(self, group: Mapping[str, Any]) -> bool:
        """Whether the group still holds the very same values, and they cannot be others within."""
        same = map(operator.is_, map(group.get, self.seen), self.seen.values())
        return self.fixed and len(group) == self.size and all(same)


class Grouped(Watched):
    """What an optimizer knows of its groups: the transformation that each of them makes."""

    tx: GradientTransformation
    measure_group: Any = None
    _partial = False  # it may see some of the parameters only
    _complete = False  # after `__init__`
    _told: frozenset[str] = frozenset()  # keys of groups that were warned of

    @functools.cached_property
    def _labelled(self) -> bool:
        """Whether labels become groups."""
        return any(isinstance(node, partition) for _, node in walk(self.tx))

    @functools.cached_property
    def _evaluates(self) -> bool:
        """Whether the loss is evaluated within a step."""
        return self.tx.needs_closure

    def _set_up(self, params: Iterable[Any], tx: GradientTransformation, more: Values) -> None:
        self.tx = tx = per_tensor(tx)
        self._partial = _called_by("torch.distributed.optim.zero_redundancy_optimizer")
        self._schedules: list[Values] = []  # by group: the schedules behind its numbers
        self._shown: list[Values] = []  # by group: the numbers last written there
        self._forget()
        if any(getattr(node, "averages", False) for _, node in walk(tx)):
            more = {**more, TRAIN_MODE: True}
        super().__init__(params, {**self._defaults(), **more})
        self._check_names(self.param_groups)
        self._complete = True

    def _check_measures(self) -> None:
        """Refuses a sum over tensors where only some of them are there to be summed."""
        if not self._partial or self.measure_group is not None:
            return
        for _, node in walk(self.tx):
            if isinstance(node, TensorRule) and node.measures and node.measure_per == "tree":
                raise StructureError(
                    f"`{type(self).__name__}`: `{type(node).__name__}` sums over all parameters, "
                    "and inside `ZeroRedundancyOptimizer` each rank has only some: say which ranks "
                    "have the others, `zero.optim.measure_group = torch.distributed.group.WORLD`."
                )

    def _check_names(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.tx.check_names([x for group in groups for x in named(group)])  # type: ignore[attr-defined]

    def _forget(self) -> None:
        """Drops what can be made anew."""
        self._made: dict[int, Made] = {}  # by group

    # What a class made by `optimizer_class` does in another way.

    def _defaults(self, of: Named | None = None) -> Values:
        """The hyperparameters of a group, by key; those that have to do with one parameter."""
        return hyperparams(self.tx, of)

    def _elsewhere(self, own: Values) -> set[str]:
        """The defaults that do not belong into a group of which `own` are the hyperparameters."""
        return set(self._defaults()) - set(own)

    def _make(
        self, values: Values, of: Named | None, made: "Made | None"
    ) -> tuple[GradientTransformation, Mapping[str, Place]]:
        """The transformation with the values of a group, of which `of` is the first parameter.

        What has been `made` of the group before differs in values only.
        """
        if made is not None:
            new = {k: v for k, v in values.items() if not same(v, made.values[k])}
            return changed(made.tx, {made.places[k]: v for k, v in new.items()}), made.places
        where = places(self.tx, of)
        return changed(self.tx, {where[key]: value for key, value in values.items()}), where

    # Groups: the only truth for hyperparameters.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; with a `partition`, one for every label that occurs in it."""
        before = len(self.param_groups)
        try:
            for part in self._split(param_group):
                self._add(part)
            if self._complete:
                self._check_names(self.param_groups)
        except BaseException:  # a failed call changes nothing
            del self.param_groups[before:], self._schedules[before:], self._shown[before:]
            self._forget()
            raise

    def _split(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        if not isinstance(group, dict) or isinstance(group["params"], set):
            return [group]  # which the base class refuses
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        group["params"] = params
        if not self._labelled or not params:
            return [group]
        parts: dict[str, dict[str, Any]] = {}
        for x in params:
            label = _label(self.tx, x if isinstance(x, tuple) else (None, x))
            name = f"{group['name']}/{label}" if "name" in group else label
            parts.setdefault(label, {**group, "name": name, "params": []})["params"].append(x)
        return list(parts.values())

    def _add(self, group: dict[str, Any]) -> None:
        given = set(group)
        first = next(iter(group["params"]), None)
        of = first if isinstance(first, tuple) else (None, first)
        own = self._defaults(of if isinstance(of[1], Tensor) else None)
        for key, value in own.items():
            group.setdefault(key, value)
        super().add_param_group(group)
        for key in self._elsewhere(own) - given:
            group.pop(key, None)
        self._schedules.append({k: group[k] for k in own if has_schedule(group[k])})
        self._shown.append({})
        index = len(self.param_groups) - 1
        self._show(index, self._updates())
        self._group(index)

    def _show(self, index: int, updates: Any) -> None:
        """Writes the current values of schedules into a group."""
        now = self._current(index, updates)
        self.param_groups[index].update(now)
        self._shown[index].update(now)

    def _current(self, index: int, updates: Any) -> Values:
        """The values of a group's schedules that the next update will use."""
        schedules = self._schedules[index]
        counts = self._counts(index, updates) if schedules else {}
        return {k: evaluated(value, counts.get(k, updates)) for k, value in schedules.items()}

    def _counts(self, index: int, updates: Any) -> Values:
        """The updates that the stage of each hyperparameter has made, where it is known."""
        return {}

    def _group(self, index: int) -> "Made":
        """The transformation of a group, made anew where a value has changed."""
        group, made = self.param_groups[index], self._made.get(index)
        if made is not None and made.is_of(group):
            return made
        first, schedules = next(named(group), None), self._schedules[index]
        if made is None or made.size != len(group):
            new = group.keys() - self._defaults().keys() - self._told
            self._told |= warn_of_suspicious(type(self).__name__, new, self._defaults(first))
        before = {} if made is None else made.values
        keys = [key for key in before or self._defaults(first) if key not in schedules]
        seen = {key: group[key] for key in keys}
        known = made.seen if made is not None and made.fixed else {}
        other = [key for key in keys if key not in known or seen[key] is not known[key]]
        values = {**before, **{key: as_scalar(key, seen[key]) for key in other}, **schedules}
        fixed = all(is_fixed(seen[key]) for key in other)  # the others were
        if made is not None and all(same(values[key], before[key]) for key in other):
            made = made._replace(values=values, seen=seen, fixed=fixed, size=len(group))
        else:
            tx, where = self._make(values, first, made)
            if index and not same_form(tx, self._group(0).tx):
                self._check_structure(index, tx)
            kinds = dict(zip(before, made.kind, strict=True)) if made else {}
            kinds.update((key, kind(values[key])) for key in (other if kinds else values))
            slots = tuple(kinds.values())
            made = Made(values, tx, slots, seen, fixed, where, len(group))  # type: ignore[arg-type]
        self._made[index] = made
        return made

    def _check_shown(self) -> None:
        """Refuses a value that was set where a schedule says what it is.

        What was written last may be another's: groups and state can be exchanged for a step.
        """
        for index, (schedules, shown) in enumerate(zip(self._schedules, self._shown, strict=True)):
            group = self.param_groups[index]
            if "lr" in schedules and "initial_lr" in group:
                raise HyperparameterError(
                    f"`{type(self).__name__}`: a scheduler has been put on group {index}, whose "
                    f"`lr` follows {schedules['lr']!r}. Use the schedule or a scheduler, not both."
                )
            other = [key for key in schedules if not same(group[key], shown[key])]
            now = self._current(index, self._updates()) if other else {}
            for key in other:
                if not same(group[key], now[key]):
                    raise HyperparameterError(
                        f"`{type(self).__name__}`: `{key}` of group {index} follows "
                        f"{schedules[key]!r} and cannot be set, got {group[key]!r}. Use the "
                        "schedule or a scheduler, not both."
                    )

    def _check_structure(self, index: int, tx: GradientTransformation) -> None:
        for (path, a), (_, b) in zip(walk(self._group(0).tx), walk(tx), strict=False):
            numbers = {*a.hyperparameters, *_parts(a)}
            for name in a.__dict__:
                if callable(
                    a.__dict__[name]
                ):  # a function made anew is another, and may do the same
                    continue
                if name not in numbers and a.__dict__[name] != b.__dict__.get(name):
                    raise HyperparameterError(
                        f"`{type(self).__name__}`: `{name}` of stage {'/'.join(path)} must be the "
                        f"same in all groups, got {a.__dict__[name]!r} in group 0 and "
                        f"{b.__dict__.get(name)!r} in group {index}: only numbers may differ."
                    )

    def _updates(self) -> Tensor | None:
        """How many steps the optimizer has made; `None` where no schedule asks."""
        if not any(self._schedules):
            return None
        kept = [s[UPDATES] for s in self.state.values() if isinstance(s, dict) and UPDATES in s]
        return max(kept, key=float) if kept else torch.zeros((), dtype=clock_dtype(), device="cpu")


def per_tensor(tx: GradientTransformation) -> GradientTransformation:
    """`tx`, with its stages that see whole trees made part of a pass."""
    if tx.is_per_tensor():
        return tx
    return chain(*map(per_tensor, tx.stages)) if isinstance(tx, chain) else whole(tx)


def named(group: Mapping[str, Any]) -> Iterator[Named]:
    """The parameters of a group, with their names if they have some."""
    names = group.get("param_names") or [None] * len(group["params"])
    return zip(names, group["params"], strict=False)


def _label(tx: GradientTransformation, of: Named) -> str:
    """The labels of one parameter in all partitions of `tx`, from the outermost."""
    found = [
        label
        for _, node in walk(tx, of=of)
        if isinstance(node, partition)
        for label in node.children_of(*of)
    ]
    return "/".join(found)


def _parts(node: GradientTransformation) -> set[str]:
    """The fields that hold other transformations; they are looked at themselves."""
    kinds = (GradientTransformation, tuple, list, dict)
    return {k for k, v in node.__dict__.items() if isinstance(v, kinds)}


def _called_by(module: str) -> bool:
    """Whether a function of `module` is making this optimizer."""
    frame = sys._getframe(1)
    for _ in range(12):
        if frame.f_globals.get("__name__") == module:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
