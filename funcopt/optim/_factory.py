"""How the values of a parameter group make a transformation.

There are two ways: they are put into a chain that was given, or they are the arguments of a
function that makes one.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from .._core.compact import in_message
from .._core.tensor_rule import GradientTransformation, NamedParams, PerTensor
from .._core.warning import warn
from ..combinators import (
    FieldPath,
    chain,
    field_paths,
    find_field,
    hyperparams,
    partition,
    walk,
    whole,
    with_fields,
)
from ..errors import HyperparameterError
from ._default_lr import with_lr
from ._options import Options, as_hyperparameter, same_value
from ._short_ways import SHORT_WAYS, STRUCTURE, names_of_fields, short_ways_of, with_short_ways


class GroupTransformation(NamedTuple):
    """The transformation made of the values of a parameter group."""

    tx: PerTensor
    values: Options  # the hyperparameters, with schedules
    given: Options  # what stands in the group for them, without schedules
    immutable: bool  # whether no object that was given can be written into
    places: Mapping[str, FieldPath]  # where in `tx` the values are
    slots_key: tuple[Any, ...]  # what of the values decides which slots there are
    size: int  # how many keys the group had

    def is_of(self, group: Mapping[str, Any]) -> bool:
        """Whether the group still holds the very same values, and they cannot be others within."""
        same = map(operator.is_, map(group.get, self.given), self.given.values())
        return self.immutable and len(group) == self.size and all(same)


@dataclasses.dataclass(frozen=True, eq=False)
class Factory:
    """Makes the transformations of parameter groups.

    What `make` returns for different values has one structure: it differs in hyperparameters only.
    """

    tx: GradientTransformation
    """The transformation with the default values."""

    @functools.cached_property
    def labeled(self) -> bool:
        """Whether there are labels, which become groups."""
        return any(isinstance(node, partition) for _, node in walk(self.tx))

    @functools.cached_property
    def chooses(self) -> bool:
        """Whether the keys of a group depend on its parameters."""
        return any(node.chooses for _, node in walk(self.tx))

    def hyperparameters(self, of: NamedParams | None = None) -> Options:
        """The keys of a group with their defaults; those that have to do with its parameters."""
        return dict(
            zip(self.field_paths(self.tx, of), hyperparams(self.tx, of).values(), strict=True)
        )

    def field_paths(
        self, tx: GradientTransformation, of: NamedParams | None
    ) -> dict[str, FieldPath]:
        """Where in a transformation the hyperparameters of a group are, by key."""
        return field_paths(tx, of)

    def keys_of_before(self) -> dict[str, str]:
        """Keys of groups that earlier versions have saved, and those of now."""
        return {}

    def foreign(self, own: Options) -> set[str]:
        """The defaults that do not belong into a group of which `own` are the hyperparameters."""
        return set(self.hyperparameters()) - set(own)

    def key_of(self, who: str, name: str, of: NamedParams) -> str | None:
        """The key of a group that a name means; `None` if it is no hyperparameter of its own.

        Raises:
            HyperparameterError: If several stages have one of that name.
        """
        field = find_field(who, self.tx, name, of)
        return next((k for k, own in self.field_paths(self.tx, of).items() if own == field), None)

    def read_by(self, of: NamedParams) -> set[str]:
        """The keys of a group of these parameters that its stages read."""
        return set(self.hyperparameters(of or None))

    @property
    def common(self) -> tuple[str, ...]:
        """Arguments of the whole optimizer, which no group holds."""
        return ()

    defaults_are_arguments: ClassVar[bool] = False
    """Whether the defaults of the optimizer are what it was made of."""

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuses keys that a group cannot set."""

    def make(
        self, values: Options, of: NamedParams | None, before: GroupTransformation | None
    ) -> tuple[GradientTransformation, Mapping[str, FieldPath]]:
        """The transformation with the values of a group, and where in it they are.

        Args:
            values: All hyperparameters of the group.
            of: Its parameters.
            before: What has been made of the group before, if anything.
        """
        raise NotImplementedError


class ChainFactory(Factory):
    """Puts values into a chain."""

    def make(
        self, values: Options, of: NamedParams | None, before: GroupTransformation | None
    ) -> tuple[GradientTransformation, Mapping[str, FieldPath]]:
        if before is not None:
            new = {k: v for k, v in values.items() if not same_value(v, before.values[k])}
            where = before.places
            places = {where[k]: v for k, v in new.items() if k in where}
            return with_fields(before.tx, places), where
        where = field_paths(self.tx, of)
        return with_fields(self.tx, {where[k]: v for k, v in values.items() if k in where}), where


def chain_factory(tx: GradientTransformation) -> ChainFactory:
    """The factory of a chain that was passed to a constructor, where it is checked.

    Raises:
        HyperparameterError: If `tx` is no transformation.
    """
    if not isinstance(tx, GradientTransformation):
        raise HyperparameterError(
            "`Optimizer`: `tx` must be a transformation such as `adamw(1e-3)`, got "
            f"{in_message(tx)}. The order is `Optimizer(params, tx)`."
        )
    if tx.sign() == 1:
        turning = [node for node in _innermost(tx) if node.sign() == -1]
        turned = "does not negate the updates"
        remedy = "add `scale_by_learning_rate(lr)` at the end (aliases such as `adamw` have one)"
        if turning:
            often = "twice" if len(turning) == 2 else f"{len(turning)} times"
            turned = f"negates the updates {often}, by {', '.join(map(repr, turning))}"
            remedy = "keep one of these (aliases such as `adamw` have one already)"
        warn(f"`Optimizer`: {tx!r} {turned}, so `step()` would increase the loss: {remedy}.")
    return ChainFactory(per_tensor(with_lr(tx)))


def _innermost(tx: GradientTransformation) -> list[GradientTransformation]:
    """The stages that a sign comes from; of a partition, those of one label: all have one."""
    parts = list(tx.children().values())
    if isinstance(tx, partition):
        parts = parts[:1]
    return [x for part in parts for x in _innermost(part)] if parts else [tx]


class Maker(NamedTuple):
    """A function that makes a transformation of hyperparameters."""

    function: Callable[..., GradientTransformation]
    arguments: tuple[str, ...]
    switches: tuple[str, ...]  # the arguments that are structure
    dtypes: tuple[str, ...]  # those that are dtypes, which checkpoints of groups do not take

    def __call__(self, values: Options) -> GradientTransformation:
        scalars = {k: as_hyperparameter(k, values[k]) for k in self.arguments}
        return per_tensor(with_lr(self.function(**scalars)))


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionFactory(Factory):
    """Calls the function of a class with values as arguments.

    Where that makes a `partition`, its arguments are initial values only: those of a group have
    the names that they have in the transformation of its label. Switches stay.

    Shorthands that are used, such as `max_grad_norm`, are arguments like those of the function.
    """

    owner: Any
    """The class that has the `maker`; it pickles, even if the function does not."""

    defaults_are_arguments: ClassVar[bool] = True

    defaults: Options
    """Those of the optimizer, the arguments of the function among them."""

    @classmethod
    def of(cls, owner: Any, defaults: Options) -> "FunctionFactory":
        """The factory of a class, with the defaults of an optimizer."""
        ways = short_ways_of(defaults, owner.maker.arguments)
        return cls(with_short_ways(owner.maker(defaults), ways), owner, defaults)

    @property
    def maker(self) -> Maker:
        maker: Maker = self.owner.maker
        return maker

    @property
    def _short_ways(self) -> Options:
        return short_ways_of(self.defaults, self.maker.arguments)

    @property
    def _arguments(self) -> tuple[str, ...]:
        return *self.maker.arguments, *self._short_ways

    def _made(self, values: Options) -> GradientTransformation:
        ways = {k: as_hyperparameter(k, values[k]) for k in self._short_ways}
        return with_short_ways(self.maker(values), ways)

    def hyperparameters(self, of: NamedParams | None = None) -> Options:
        if not self.labeled:
            keys = [k for k in self._arguments if k not in self.common]
            return {k: self.defaults[k] for k in keys}
        switches = {k: self.defaults[k] for k in self.maker.switches}
        return {**switches, **super().hyperparameters(of)}

    def field_paths(
        self, tx: GradientTransformation, of: NamedParams | None
    ) -> dict[str, FieldPath]:
        called = names_of_fields(tx, self._short_ways)
        return {called.get(at, key): at for key, at in super().field_paths(tx, of).items()}

    def read_by(self, of: NamedParams) -> set[str]:
        read = super().read_by(of)
        if not self.labeled or not of:
            return read
        nodes = [node for _, node in walk(self.tx, of=of)]
        unread = {
            k for k in self.maker.switches if not any(_has(x, k, self.defaults[k]) for x in nodes)
        }
        return read - unread

    def keys_of_before(self) -> dict[str, str]:
        if not self.labeled:
            return {}
        called = names_of_fields(self.tx, self._short_ways)
        return {k: called[at] for k, at in field_paths(self.tx).items() if at in called}

    def key_of(self, who: str, name: str, of: NamedParams) -> str | None:
        return super().key_of(who, name, of) if self.labeled else None

    def foreign(self, own: Options) -> set[str]:
        return super().foreign(own) | set(self._arguments) - set(own)

    @property
    def common(self) -> tuple[str, ...]:
        return *self.maker.dtypes, *(key for key in self._short_ways if key in STRUCTURE)

    def check_group(self, group: Mapping[str, Any]) -> None:
        for key in SHORT_WAYS:
            unused = key not in self._arguments and key not in self.defaults
            if unused and group.get(key) is not None:
                raise HyperparameterError(
                    f"`{self.owner.__name__}`: `{key}` of a parameter group is {group[key]!r}, and "
                    "the class was made without: give it to the class too, "
                    f"`{self.owner.__name__}(params, {key}=...)`."
                )
        for key in self.common:
            mine = self.defaults[key]
            if group.get(key, mine) != mine:  # it may be made of all defaults, as by ZeRO
                raise HyperparameterError(
                    f"`{self.owner.__name__}`: `{key}` is an argument of the class, no key of a "
                    f"group: it is {mine} in all of them, got {group[key]}."
                )
        if not self.labeled:
            return
        known = dict.fromkeys(key.rpartition("/")[2] for key in self.hyperparameters())
        foreign = self.foreign(known) - set(self.common)
        for key in sorted(foreign.intersection(group)):
            raise HyperparameterError(
                f"`{self.owner.__name__}`: `{key}` is an argument of the class, no key of a "
                "group: each label has a group with keys of its own, such as `lr`."
            )

    def make(
        self, values: Options, of: NamedParams | None, before: GroupTransformation | None
    ) -> tuple[GradientTransformation, Mapping[str, FieldPath]]:
        if not self.labeled:
            return self._made({**self.defaults, **values}), {}
        switches = {k: values.get(k, self.defaults[k]) for k in self.maker.switches}
        tx = self._made({**self.defaults, **switches})
        where = self.field_paths(tx, of) if before is None else before.places
        return with_fields(tx, {where[k]: v for k, v in values.items() if k in where}), where


def _has(node: GradientTransformation, field: str, value: Any) -> bool:
    return field in node.__dict__ and bool(node.__dict__[field] == value)


def per_tensor(tx: GradientTransformation) -> GradientTransformation:
    """`tx`, with its stages that see whole trees made part of a pass."""
    if tx.is_per_tensor():
        return tx
    return chain(*map(per_tensor, tx.stages)) if isinstance(tx, chain) else whole(tx)
