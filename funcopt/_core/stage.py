"""One pass over a list of tensors: the scalars of every stage.

Authors of rules never see this. A `Node` holds the scalars of one stage for one update. Tensors
that share the values of the hyperparameters and the clock form a `Bucket`; a pure update has one
bucket, an optimizer with parameter groups has several, and scalars are prepared once for each.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._numerics.random import Draw
from .._numerics.scalars import moved, near, number
from ..errors import ExtraArgumentError, HyperparameterError
from ..typing import Memory, Slots
from .compact import compact, missing_attribute
from .conclude import conclude_per_tensor
from .explanation import html_of
from .loss import Loss
from .ranks import NOBODY, Ranks, Span
from .record import unchecked
from .select import select


class State(NamedTuple):
    """The state of a transformation that works tensor by tensor."""

    step: Tensor  # (), int64: updates made so far
    memory: Memory  # shared scalars of the rule, or of each stage of the chain
    slots: Slots  # the parameters' tree, each leaf replaced by the rule's slots

    def __repr__(self) -> str:
        return compact(self)

    def _repr_html_(self) -> str:
        return html_of(self)


if not TYPE_CHECKING:  # which knows better what there is
    State.__getattr__ = missing_attribute


class Bucket(NamedTuple):
    """Tensors that share hyperparameters and a clock, as one stage sees them."""

    tx: Any  # the stage, with the values of this bucket
    step: Any  # number of the update being made: 1 at the first
    count: Any  # updates already made, which schedules see: 0 at the first
    memory: Memory


class Members(NamedTuple):
    """The tensors of a pass: the bucket of each, and the arguments that only some stages take."""

    bucket_of: Sequence[int]
    extra: Mapping[str, Any]  # scalar arguments of `update`, such as the loss
    tensor_extra: Mapping[str, Sequence[Any]]  # arguments of `update` shaped like the parameters
    names: Callable[[], Sequence[str | None]]  # found only if a stage chooses by name
    keys: Callable[[], Sequence[str]]  # the names, or numbers where there are none; if drawn for
    tensors: Sequence[Tensor]  # the parameters as they were given, or the gradients
    ranks: Ranks  # those that hold other parts, or other tensors of the same tree
    loss: Loss | None = None  # for stages that evaluate it again
    in_place: bool = False  # whether whoever runs the pass writes the parameters

    def loss_for(self, who: str) -> Loss:
        """The loss as a function of these tensors.

        Raises:
            ExtraArgumentError: If it was not given.
        """
        if self.loss is None:
            raise ExtraArgumentError(
                f"`{who}` evaluates the loss more than once in a step, and needs it as a function: "
                "call `update(grads, state, params, value_fn=...)`, where `value_fn(params)` is "
                "the loss."
            )
        return self.loss

    @property
    def spans(self) -> Sequence[Span]:
        """The process groups of each tensor; none at all where no measure meets other ranks."""
        return self.ranks.spans(self.tensors)

    @property
    def nobody_waits(self) -> bool:
        """Whether there is nothing to do: no tensor here, and no rank that waits for this one."""
        return not self.tensors and not self.ranks.share_tensors

    def subset(self, chosen: Sequence[int]) -> tuple["Members", list[int]]:
        """The chosen tensors, and the buckets that they belong to, renumbered from 0."""
        used = sorted({self.bucket_of[i] for i in chosen})
        place = {bucket: k for k, bucket in enumerate(used)}
        names, keys = self.names, self.keys  # a node keeps these: not the tensors with them
        members = Members(
            bucket_of=[place[self.bucket_of[i]] for i in chosen],
            extra=self.extra,
            tensor_extra={k: [v[i] for i in chosen] for k, v in self.tensor_extra.items()},
            names=lambda: _picked(names(), chosen),
            keys=lambda: _picked(keys(), chosen),
            tensors=[self.tensors[i] for i in chosen],
            ranks=self.ranks,
            loss=None if self.loss is None else self.loss.subset(chosen),
            in_place=self.in_place,
        )
        return members, used


NO_MEMBERS = Members((), {}, {}, tuple, tuple, (), NOBODY)


def _picked(values: Sequence[Any], chosen: Sequence[int]) -> list[Any]:
    return [values[i] for i in chosen]


class Scalars:
    """The scalars of one rule in one step, by name: its fields and what it has prepared."""

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
    """One stage during one update: its scalars, a row for each bucket, and its memory.

    The node of a combinator has those of its inner transformations in `children`.
    """

    def __init__(
        self,
        rules: Sequence[Any],
        rows: list[dict[str, Any]],
        memory: list[Memory],
        members: Members,
        children: Sequence["Node"] = (),
    ) -> None:
        self.rules = rules  # one for each bucket, with its schedules evaluated
        self.rows = rows
        self.memory = memory
        self.members = members
        self.children = children
        self.bucket_of, self.keys = members.bucket_of, members.keys
        self.row_of = members.bucket_of  # the row of each tensor

    trace_hook: "Callable[[Node, int, Tensor], Scalars | None] | None" = None
    """Set by the engine: the scalars of a row for a tensor that is traced; `None` for others."""

    decide_hook: "Callable[[bool], None] | None" = None
    """Set by the engine: receives each decision of `select`."""

    whole_hook: "Callable[[Node, list[Any], list[Any], list[Any]], Any] | None" = None
    """Set by the engine: makes the updates of a rule that sees whole tensors, where these are
    traced or known; `None` for others."""

    flags: Sequence[Tensor] = ()
    """Those by which `select` has chosen without looking at them."""

    new_params: Sequence[Tensor | None] | None = None
    """What parameters become, where that is not their sum with the update, if that is in place."""

    is_known = False
    """Set by the engine: what is computed of tensors is known; `run` gets stand-ins for them."""

    def select(self, flag: Any, yes: Any, no: Any, *, both: bool = False) -> Any:
        """The function `select`, for stages that declare `decides`: the engine sees the choice."""
        if not both and not isinstance(flag := number(flag), Tensor) and self.decide_hook:
            self.decide_hook(bool(flag))
        if isinstance(flag, Tensor):
            self.flags = [*self.flags, flag]
        return select(flag, yes, no, both=both)

    def copied(self) -> "Node":
        """A node of its own with the same content, and so below it.

        Scalars are copied: those of another update may be written in the same place.
        """
        made: Node = object.__new__(type(self))
        vars(made).update(vars(self))
        made.rows = [{key: _copied(x) for key, x in row.items()} for row in self.rows]
        made.children = [child.copied() for child in self.children]
        return made

    def release(self) -> None:
        """Drops tensors and arguments, when all is done; what was measured stays."""
        self.members = NO_MEMBERS
        for child in self.children:
            child.release()

    def row_scalars(self, row: int, dtype: torch.dtype, device: torch.device) -> Scalars:
        """The scalars of a row, those that are tensors in this dtype and near this device."""
        values = {k: cast_scalar(v, dtype, device) for k, v in self.rows[row].items()}
        return Scalars(type(self.rules[0]).__name__, values)

    def scalars(self, like: Sequence[Tensor]) -> list[Scalars]:
        """The scalars for every tensor of the pass, those that are tensors in its dtype, near it.

        So each device gets its own copy of what was concluded on one of them.
        """
        first, owner = self.rules[0], type(self.rules[0]).__name__
        if self.is_known:
            return [Scalars(owner, self.rows[row]) for row in self.row_of]
        keys = self.keys() if first.random else ()
        given = self.members.tensor_extra
        names = [k for k in first.tensor_extra if k in given or k not in first.optional_extra]
        each_its_own = first.random or names
        made: dict[Any, tuple[dict[str, Any], Scalars]] = {}
        out = []
        for i, (row, tensor) in enumerate(zip(self.row_of, like, strict=True)):
            traced = None if self.trace_hook is None else self.trace_hook(self, row, tensor)
            if traced is not None:
                out.append(traced)
                continue
            key = (row, tensor.dtype, tensor.device)
            if key not in made:
                values = {k: cast_scalar(v, *key[1:]) for k, v in self.rows[row].items()}
                made[key] = values, Scalars(owner, values)
            values, scalars = made[key]
            if not each_its_own:
                out.append(scalars)
                continue
            mine: dict[str, Any] = {k: given[k][i] for k in names}
            missing = [k for k, x in mine.items() if x is None and k not in first.optional_extra]
            if missing:
                raise ExtraArgumentError(
                    f"`{owner}` needs the extra argument `{missing[0]}` of every parameter that it "
                    f"transforms, and that of `{self.keys()[i]}` is None."
                )
            if first.random:
                mine["draw"] = Draw(keys[i], self.members.tensors[i])
            out.append(Scalars(owner, {**values, **mine}))
        return out

    def conclude(self, total: Any) -> None:
        """Calls the rule's `conclude` with the total over all tensors, and adds its scalars."""
        more: Mapping[str, Any] = {}
        if len(self.rules) > 1 and self.rules[0].memory_per == "tree":
            rule, row = common_scalars(self.rules, self.rows)
            more, memory = self._conclude(rule, row, self.memory[0], total)
            self.rows = [{**own, **more} for own in self.rows]
            self.memory = [memory] * len(self.rules)
            return
        rows: list[dict[str, Any]] = []
        before = -1
        for b, one in enumerate(self.conclusions()):
            if one > before:
                before, rule = one, self.rules[b]
                more, self.memory[b] = self._conclude(rule, self.rows[b], self.memory[b], total)
            rows.append({**self.rows[b], **more})
        self.rows = rows

    def conclusions(self) -> tuple[int, ...]:
        """Which conclusion from a total each bucket has: the same scalars lead to the same one."""
        found = [0]
        for b in range(1, len(self.rules)):
            same = self.memory[b] == () and _same_row(self.rows[b - 1], self.rows[b])
            found.append(found[-1] if same else found[-1] + 1)
        return tuple(found)

    def conclude_each(
        self,
        table: Sequence[Tensor] | Tensor,
        rows_by_dtype: Mapping[Any, Sequence[int]],
        spec: tree.Spec[Any],
    ) -> None:
        """The same for `measure_per = "tensor"`: every tensor gets a row of its own."""
        rows: list[dict[str, Any]] = [{}] * len(table)
        for (bucket, *dtypes), indices in rows_by_dtype.items():
            whole = len(indices) == len(rows) and isinstance(table, Tensor)
            # An index would have to be sent to the device.
            mine = table if whole else torch.stack([table[i] for i in indices])
            columns = [
                moved(x, device).to(dtype)
                for x, (device, dtype) in zip(mine.unbind(1), dtypes, strict=True)  # type: ignore[union-attr]
            ]
            conclude = functools.partial(self._conclude_one, bucket, spec)
            given = (self.rows[bucket], self.memory[bucket])
            each, varying = conclude_per_tensor(conclude, columns, closed_over=given)
            self.per_tensor_scalars = self.per_tensor_scalars | varying
            for i, more in zip(indices, each, strict=True):
                rows[i] = {**self.rows[bucket], **more}
        self.rows, self.row_of = rows, range(len(rows))

    row_buckets: Sequence[int] | None = None
    """The bucket of each row, if every tensor that was measured has one: more than there are
    members, where one of them was traced for several."""

    row_keys: Callable[[], Sequence[str]] = tuple
    """The keys of the same tensors, if the rule has metrics."""

    per_tensor_scalars: frozenset[str] = frozenset()
    """The names of the scalars that may differ between the tensors of a bucket."""

    def _conclude_one(self, bucket: int, spec: tree.Spec[Any], *total: Tensor) -> Mapping[str, Any]:
        """The scalars that the rule of a bucket concludes for one tensor."""
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
        row, total, extra = _where_it_is_concluded(memory, row, total, extra)
        more, new = rule.conclude(Scalars(who, row), memory, total, **extra)
        return more, new


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


class DifferingScalar:
    """A scalar that differs between parameter groups, where one value for all is needed."""

    def __init__(self, owner: str, name: str, differ: Sequence[str]) -> None:
        others = "" if f"`{name}`" in differ else f" It is not, as {', '.join(differ)} differ."
        self.__dict__["_say"] = (
            f"`{owner}` shares scalars over all parameters, so `{name}` must be the same in all "
            f"parameter groups.{others}"
        )

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise HyperparameterError(self.__dict__["_say"])

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _fail
    __rtruediv__ = __pow__ = __rpow__ = __neg__ = __bool__ = __float__ = __eq__ = __ne__ = _fail
    __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __getitem__ = __len__ = _fail
    __hash__ = object.__hash__
    __torch_function__ = _fail


def _same_row(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two rows hold the same values; tensors are compared by identity."""
    return a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a)


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same_value, a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return bool(a == b)


def common_scalars(
    rules: Sequence[Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[Any, dict[str, Any]]:
    """A rule and a row of the scalars that are the same in all buckets."""
    first, row = rules[0], dict(rows[0])
    fields = [rule.hyperparam_values() for rule in rules]
    differ = [
        f"`{name}`"
        for name, value in fields[0].items()
        if any(not _same_value(other[name], value) for other in fields[1:])
    ]
    for name in row:
        if any(not _same_value(other[name], row[name]) for other in rows[1:]):
            row[name] = DifferingScalar(type(first).__name__, name, differ)
    return unchecked(first, {name: row[name] for name in first.hyperparameters}), row


def _where_it_is_concluded(memory: Memory, row: Any, total: Any, extra: Any) -> Any:
    """What a rule concludes from, near one device: that of its memory, else that of the total.

    Mostly it is there already.
    """
    found = [x.device for part in (memory, total, row, extra) for x in _tensors(part)]
    devices = {device for device in found if device.type != "cpu"}
    if len(devices) < 2:
        return row, total, extra
    device = next(device for device in found if device in devices)

    def one(x: Any) -> Any:
        return near(x, device) if isinstance(x, Tensor) else x

    return tuple(tree.map(one, part) for part in (row, total, extra))


def _tensors(x: Any) -> list[Tensor]:
    """The tensors in scalars, however they are nested."""
    if isinstance(x, Tensor):
        return [x]
    if not isinstance(x, (tuple, list, Mapping)):
        return []
    return [y for part in (x.values() if isinstance(x, Mapping) else x) for y in _tensors(part)]


def cast_scalar(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A scalar, or a tuple of them; a tensor near a device, in `dtype` if it is floating-point."""
    if isinstance(value, (tuple, list)):
        return tuple(cast_scalar(v, dtype, device) for v in value)
    if isinstance(value, Tensor):
        value = near(value, device)
        return value.to(dtype) if value.is_floating_point() else value
    return value
