"""One pass over a list of tensors: the scalars of every stage.

Authors of rules never see this. A `Node` holds the numbers of one stage for one update. Tensors
that share the values of the hyperparameters and the clock form a `Bucket`; a pure update has one
bucket, an optimizer with parameter groups has several, and scalars are prepared once for each.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._numerics.random import Draw
from ..errors import ExtraArgumentError, HyperparameterError
from ..typing import Memory, Slots
from .conclude import of_each
from .loss import Loss
from .record import unchecked


class State(NamedTuple):
    """What a transformation that works tensor by tensor remembers."""

    step: Tensor  # (), int64: updates made so far
    memory: Memory  # what the rule, or each stage of the chain, remembers besides
    slots: Slots  # the parameters' tree, each leaf replaced by the rule's slots


class Bucket(NamedTuple):
    """Tensors that share hyperparameters and a clock, as one stage sees them."""

    tx: Any  # the stage, with the values of this bucket
    step: Any  # number of the update being made: 1 at the first
    count: Any  # updates already made, which schedules see: 0 at the first
    memory: Memory


class Members(NamedTuple):
    """The tensors of a pass: which bucket each belongs to, and what only some stages ask for."""

    which: Sequence[int]  # the bucket of each tensor
    extra: Mapping[str, Any]  # scalar arguments of `update`, such as the loss
    tensor_extra: Mapping[str, Sequence[Tensor]]  # arguments of `update` shaped like the parameters
    names: Callable[[], Sequence[str | None]]  # found only if a stage chooses by name
    keys: Callable[[], Sequence[str]]  # the names, or numbers where there are none; if drawn for
    tensors: Sequence[Tensor]  # the parameters as they were given, or the gradients
    group: Any = None  # a process group whose ranks hold other tensors of the same tree
    loss: Loss | None = None  # for stages that evaluate it anew

    def loss_for(self, who: str) -> Loss:
        """The loss as a function of these tensors.

        Raises:
            ExtraArgumentError: If nobody has said what it is.
        """
        if self.loss is None:
            raise ExtraArgumentError(
                f"`{who}` evaluates the loss more than once in a step, and needs it as a function: "
                "call `update(grads, state, params, value_fn=...)`, where `value_fn(params)` is "
                "the loss."
            )
        return self.loss

    def among(self, chosen: Sequence[int]) -> tuple["Members", list[int]]:
        """The chosen ones alone, and the buckets that they belong to, which count anew from 0."""
        used = sorted({self.which[i] for i in chosen})
        place = {bucket: k for k, bucket in enumerate(used)}
        members = Members(
            which=[place[self.which[i]] for i in chosen],
            extra=self.extra,
            tensor_extra={k: [v[i] for i in chosen] for k, v in self.tensor_extra.items()},
            names=lambda: _picked(self.names(), chosen),
            keys=lambda: _picked(self.keys(), chosen),
            tensors=[self.tensors[i] for i in chosen],
            group=self.group,
            loss=None if self.loss is None else self.loss.among(chosen),
        )
        return members, used


def _picked(values: Sequence[Any], chosen: Sequence[int]) -> list[Any]:
    return [values[i] for i in chosen]


class Scalars:
    """The numbers of one rule in one step, by name: its fields and what it has prepared."""

    def __init__(self, owner: str, values: Mapping[str, Any]) -> None:
        self._owner = owner
        for name, value in values.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        known = sorted(key for key in self.__dict__ if not key.startswith("_"))
        raise AttributeError(
            f"`{self._owner}` has no scalar `{name}`; it has {known}. A field is one if it is "
            f"annotated so: `{name}: Scalar`."
        )


class Node:
    """One stage during one update: its numbers, a row for each bucket, and its memory.

    A combinator's node has those of what it combines in `kids`.
    """

    def __init__(
        self,
        rules: Sequence[Any],
        rows: list[dict[str, Any]],
        memory: list[Memory],
        members: Members,
        kids: Sequence["Node"] = (),
    ) -> None:
        self.rules = rules  # one for each bucket, with its schedules evaluated
        self.rows = rows
        self.memory = memory
        self.members = members
        self.kids = kids
        self.which = members.which

    lens: "Callable[[Node, int, Tensor], Scalars | None] | None" = None
    """How the numbers of a row look to a tensor that is not one to compute with; the engine's."""

    def scalars(self, like: Sequence[Tensor]) -> list[Scalars]:
        """The numbers for every tensor of the pass, those that are tensors in its dtype."""
        first, owner = self.rules[0], type(self.rules[0]).__name__
        keys = self.members.keys() if first.random else ()
        each_its_own = first.random or first.tensor_extra
        made: dict[Any, tuple[dict[str, Any], Scalars]] = {}
        out = []
        for i, (row, tensor) in enumerate(zip(self.which, like, strict=True)):
            if self.lens is not None and (seen := self.lens(self, row, tensor)) is not None:
                out.append(seen)
                continue
            key = (row, tensor.dtype)
            if key not in made:
                values = {k: cast(v, tensor.dtype) for k, v in self.rows[row].items()}
                made[key] = values, Scalars(owner, values)
            values, scalars = made[key]
            if not each_its_own:
                out.append(scalars)
                continue
            mine: dict[str, Any] = {k: self.members.tensor_extra[k][i] for k in first.tensor_extra}
            if first.random:
                mine["draw"] = Draw(keys[i], self.members.tensors[i])
            out.append(Scalars(owner, {**values, **mine}))
        return out

    def conclude(self, total: Any) -> None:
        """Gives the rule what was measured, the same for all; its answers become scalars."""
        more: Mapping[str, Any] = {}
        if len(self.rules) > 1 and self.rules[0].memory_per == "tree":
            rule, row = common(self.rules, self.rows)
            more, memory = self._conclude(rule, row, self.memory[0], total)
            self.rows = [{**own, **more} for own in self.rows]
            self.memory = [memory] * len(self.rules)
            return
        rows: list[dict[str, Any]] = []
        for b, rule in enumerate(self.rules):
            # Of the same numbers it would conclude the same again.
            if not (b and self.memory[b] == () and _alike(self.rows[b - 1], self.rows[b])):
                more, self.memory[b] = self._conclude(rule, self.rows[b], self.memory[b], total)
            rows.append({**self.rows[b], **more})
        self.rows = rows

    def conclude_each(
        self, table: Tensor, alike: Mapping[Any, Sequence[int]], spec: tree.Spec
    ) -> None:
        """The same, where each tensor has been measured by itself: each gets a row of its own."""
        rows: list[dict[str, Any]] = [{}] * len(table)
        for (bucket, *forms), places in alike.items():
            mine = table
            if len(places) < len(rows):  # an index would have to be sent to the device
                mine = torch.stack([table[i] for i in places])
            columns = [x.to(*form) for x, form in zip(mine.unbind(1), forms, strict=True)]
            ask = functools.partial(self._asked, bucket, spec)
            each, own = of_each(ask, columns, beside=(self.rows[bucket], self.memory[bucket]))
            self.own = self.own | own
            for place, more in zip(places, each, strict=True):
                rows[place] = {**self.rows[bucket], **more}
        self.rows, self.which = rows, range(len(rows))

    own: frozenset[str] = frozenset()
    """What each tensor may have its own of, after each was concluded of by itself."""

    def _asked(self, bucket: int, spec: tree.Spec, *total: Tensor) -> Mapping[str, Any]:
        """What the rule of a bucket says of one tensor."""
        rule, row, memory = self.rules[bucket], self.rows[bucket], self.memory[bucket]
        return self._conclude(rule, row, memory, spec.unflatten(total))[0]

    def _conclude(
        self, rule: Any, row: dict[str, Any], memory: Memory, total: Any
    ) -> tuple[Mapping[str, Any], Memory]:
        who, given = type(rule).__name__, self.members.extra
        if missing := sorted(rule.required_extra.difference(given, self.members.tensor_extra)):
            raise ExtraArgumentError(
                f"`{who}` needs the extra argument `{missing[0]}`: call "
                f"`update(updates, state, params, {missing[0]}=...)`."
            )
        extra = {k: v for k, v in given.items() if k in rule.extra}
        more, new = rule.conclude(Scalars(who, row), memory, total, **extra)
        return more, new


class Different:
    """A hyperparameter that differs between groups, where there is one answer for all of them."""

    def __init__(self, owner: str, name: str, differ: Sequence[str]) -> None:
        others = "" if f"`{name}`" in differ else f" It is not, as {', '.join(differ)} differ."
        self.__dict__["_say"] = (
            f"`{owner}` has one memory for all parameters, so `{name}` must be the same in all "
            f"parameter groups.{others}"
        )

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise HyperparameterError(self.__dict__["_say"])

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _fail
    __rtruediv__ = __pow__ = __rpow__ = __neg__ = __bool__ = __float__ = __eq__ = __ne__ = _fail
    __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __getitem__ = __len__ = _fail
    __hash__ = object.__hash__
    __torch_function__ = _fail


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two rows hold the same numbers, without a look into tensors."""
    return a.keys() == b.keys() and all(_one(a[key], b[key]) for key in a)


def _one(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_one, a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return bool(a == b)


def common(rules: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """A rule and a row that hold what is the same in all buckets."""
    first, row = rules[0], dict(rows[0])
    fields = [rule.numbers() for rule in rules]
    differ = [
        f"`{name}`"
        for name, value in fields[0].items()
        if any(not _one(other[name], value) for other in fields[1:])
    ]
    for name in row:
        if any(not _one(other[name], row[name]) for other in rows[1:]):
            row[name] = Different(type(first).__name__, name, differ)
    return unchecked(first, {name: row[name] for name in first.hyperparameters}), row


def cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(cast(v, dtype) for v in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value
