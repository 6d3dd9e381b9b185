"""Any transformation as a `torch.optim.Optimizer`."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .. import _leaves, _pass
from .._base import GradientTransformation, PerTensor
from .._math import number
from ..combinators import (
    chain,
    hyperparams,
    labels,
    partition,
    paths,
    unique_keys,
    walk,
    with_hyperparams,
)
from ..errors import HyperparameterError, SparseGradientError, StructureError
from ..transforms import scale_by_learning_rate
from ._checkpoint import FORMAT, as_created, by_name
from ._layout import STEP, UPDATES, Layout, begin
from ._values import Values, as_scalar, evaluated, has_schedule, kind, same

Named = tuple[str | None, Tensor]
"""A parameter, and its name if it is known."""


class Optimizer(torch.optim.Optimizer):
    """Steps the parameters by a transformation: any chain, with all that torch's optimizers can do.

        opt = Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), adamw(1e-3)))
        loss.backward()
        opt.step()

    The numbers are those of the pure form: `update`, then `apply_updates_`. What differs is torch's
    own convention: a parameter without a gradient is skipped, and its step does not advance.

    Every hyperparameter of the chain, at any depth, stands in `param_groups` under its key in
    `hyperparams`, is read at every step, and may differ between groups: so torch's schedulers work.
    A chain without an `lr` gets ``lr = 1.0`` as a last factor, which schedulers then see as
    relative. A hyperparameter that holds a schedule cannot be set from outside; the group shows the
    value that the next step will use. One pass runs over all groups: a global norm spans them. Every
    label of a `partition` becomes a group of that name, with hyperparameters of its own.

    Each `state[p]` is a flat dict of tensors, named as torch names them, filled at the first step
    that needs it and updated in place.

    Args:
        params: Tensors, named tensors or groups, as for any torch optimizer. Groups may set any
            key. With names, checkpoints are matched by name.
        tx: The transformation; its signs must make it descend.
        maximize: Ascend instead, by negating the gradients first. May differ between groups.

    Raises:
        HyperparameterError: If a value is out of range, or groups differ in more than numbers.
        LabelError: If a parameter has no label, or a pattern fits no parameter.
        StructureError: If `tx` has a stage that sees whole trees.
    """

    tx: GradientTransformation

    def __init__(
        self,
        params: Iterable[Any],
        tx: GradientTransformation,
        *,
        maximize: bool = False,
    ) -> None:
        if not isinstance(tx, GradientTransformation):
            raise HyperparameterError(
                f"`Optimizer`: `tx` must be a transformation such as `adamw(1e-3)`, got {tx!r}."
            )
        if not tx.turns_sign():
            warnings.warn(
                f"no stage of {tx!r} turns the sign, so its steps ascend: end the chain with "
                "`scale_by_learning_rate(lr)`.",
                stacklevel=2,
            )
        self._set_up(params, with_lr(tx), {"maximize": maximize, "differentiable": False})

    def _set_up(self, params: Iterable[Any], tx: GradientTransformation, more: Values) -> None:
        if not tx.is_per_tensor():
            raise StructureError(
                f"`{type(self).__name__}` runs tensor by tensor, and a stage of {tx!r} sees whole "
                "trees. Use the pure form, or write that stage as a `TensorRule`."
            )
        self.tx = tx
        self._private()
        super().__init__(params, {**self._defaults(), **more})

    def _private(self) -> None:
        self._schedules: list[Values] = []  # by group: the schedules behind its numbers
        self._shown: list[Values] = []  # by group: the numbers last written there
        self._forget()

    def _forget(self) -> None:
        """Drops what can be made anew."""
        self._made: dict[int, _Made] = {}  # by group
        self._layouts = WeakTensorKeyDictionary()  # by parameter
        self._last: _pass.Node | None = None  # of the last step, for metrics
        self._last_groups: list[int] = []

    # What a class made by `optimizer_class` does in another way.

    def _defaults(self, of: Named | None = None) -> Values:
        """The hyperparameters of a group, by key; those that have to do with one parameter."""
        return hyperparams(self.tx, of)

    def _make(self, values: Values, of: Named | None) -> GradientTransformation:
        """The transformation with the values of a group, of which `of` is the first parameter."""
        places = paths(self.tx, of)
        return with_hyperparams(self.tx, {places[key]: value for key, value in values.items()})

    # Groups: the only truth for hyperparameters.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; with a `partition`, one for every label that occurs in it."""
        before = len(self.param_groups)
        try:
            for part in self._split(param_group):
                self._add(part)
        except BaseException:  # a failed call changes nothing
            del self.param_groups[before:], self._schedules[before:], self._shown[before:]
            self._forget()
            raise

    def _split(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        if not isinstance(group, dict) or isinstance(group["params"], set):
            return [group]  # which the base class refuses
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        named = [x if isinstance(x, tuple) else (None, x) for x in params]
        if all(isinstance(p, Tensor) for _, p in named):
            self.tx.check_names(named)  # type: ignore[attr-defined]
        if not any(isinstance(node, partition) for _, node in walk(self.tx)) or not params:
            return [{**group, "params": params}]
        parts: dict[str, dict[str, Any]] = {}
        for x, pair in zip(params, named, strict=True):
            label = _label(self.tx, pair)
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
        for key in set(self._defaults()) - set(own) - given:  # of other branches
            group.pop(key, None)
        self._schedules.append({k: group[k] for k in own if has_schedule(group[k])})
        self._shown.append({})
        index = len(self.param_groups) - 1
        self._show(index, self._updates())
        self._group(index)

    def _show(self, index: int, updates: Any) -> None:
        """Writes the current values of schedules into a group."""
        group = self.param_groups[index]
        for key, value in self._schedules[index].items():
            group[key] = self._shown[index][key] = evaluated(value, updates)

    def _group(self, index: int) -> "_Made":
        """The transformation of a group, made anew where a value has changed."""
        group, made = self.param_groups[index], self._made.get(index)
        first = next(_named(group), None)
        keys = made.values if made is not None else self._defaults(first)
        values = {key: as_scalar(group[key]) for key in keys}
        for key, schedule in self._schedules[index].items():
            if not same(group[key], self._shown[index][key]):
                raise HyperparameterError(
                    f"`{type(self).__name__}`: `{key}` of group {index} follows {schedule!r} and "
                    f"cannot be set, got {group[key]!r}. Use the schedule or a scheduler, not both."
                )
            values[key] = schedule
        if made is None or any(not same(values[key], made.values[key]) for key in values):
            tx = self._make(values, first)
            made = _Made(values, tx, tuple(map(kind, values.values())))  # type: ignore[arg-type]
            self._check_structure(index, made.tx)
            self._made[index] = made
        return made

    def _check_structure(self, index: int, tx: GradientTransformation) -> None:
        if not index:
            return
        for (path, a), (_, b) in zip(walk(self._group(0).tx), walk(tx), strict=False):
            numbers = {*a.hyperparameters, *_parts(a)}
            for name in a.__dict__:
                if name not in numbers and a.__dict__[name] != b.__dict__.get(name):
                    raise HyperparameterError(
                        f"`{type(self).__name__}`: `{name}` of stage {'/'.join(path)} must be the "
                        f"same in all groups, got {a.__dict__[name]!r} in group 0 and "
                        f"{b.__dict__.get(name)!r} in group {index}: only numbers may differ."
                    )

    # Stepping.

    def step(self, closure: Callable[[], Any] | None = None, **extra: Any) -> Any:
        """Takes one step.

        Args:
            closure: Computes the loss and its gradients anew; it is called once, with gradients
                enabled, and its value returned. A stage that asks for ``value`` gets it.
            **extra: Extra arguments of the transformation's `update`.

        Raises:
            SparseGradientError: If a gradient is sparse. Nothing is changed.
            HyperparameterError: If a value in `param_groups` is out of range, or was set although
                it follows a schedule. Nothing is changed.
            ExtraArgumentError: If no stage knows an extra argument, or one is missing.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            if "value" in (self.tx.extra_names() or ()):
                extra.setdefault("value", loss)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            self._step_impl(extra)
        return loss

    def _step_impl(self, extra: Mapping[str, Any]) -> None:
        if not self.state and self._is_probe():
            return self.init_state()
        updates = self._updates()
        active = self._active()
        if not active:
            return None
        buckets: dict[Any, int] = {}
        rows: list[_pass.Bucket] = []
        which, groups = [], []
        for one in active:
            key = (one.group, *(number_or_id(x) for x in (one.step, *one.clock)))
            if key not in buckets:
                buckets[key] = len(rows)
                now = number(one.step) + 1
                count = now - 1 if updates is None else number(updates)
                rows.append(_pass.Bucket(one.made.tx, now, count, one.memory))
                groups.append(one.group)
            which.append(buckets[key])
        wide = [_leaves.compute_dtype(one.g, one.p, one.slots) for one in active]
        lifted = list(zip(active, wide, strict=True))
        members = _pass.Members(
            which,
            extra,
            {},
            lambda: [one.name for one in active],
            [one.p for one in active],
        )
        tx = active[0].made.tx
        tx.check_extra(extra)
        node = tx.open(rows, members)
        us, new = tx.run(
            [_leaves.lift(one.g, dtype) for one, dtype in lifted],
            [_leaves.lift_slots(one.slots, one.g, dtype) for one, dtype in lifted],
            [_leaves.lift(one.p, dtype) for one, dtype in lifted],
            node,
            _pass.reduce,
        )
        memories = tx.memory_after(node)
        after = None if updates is None else updates + 1
        for i, one in enumerate(active):  # nothing has been changed before
            self._commit(one, us[i], new[i], memories[which[i]], after)
        for index in range(len(self.param_groups)):
            self._show(index, after)
        self._last, self._last_groups = node, groups
        return None

    def _active(self) -> list["_Active"]:
        """The parameters that have a gradient, each once, with all that their update needs."""
        found: dict[Tensor, _Active] = {}
        shared: dict[str, Tensor] = {}
        for index, group in enumerate(self.param_groups):
            made = self._group(index) if any(p.grad is not None for p in group["params"]) else None
            for j, (name, p) in enumerate(_named(group)):
                g = p.grad
                if g is None or p in found or made is None:
                    continue
                if g.layout is not torch.strided:
                    raise SparseGradientError(
                        f"`{type(self).__name__}` does not support sparse gradients, and that of "
                        f"parameter `{name or f'{index}.{j}'}` is: build the embedding with "
                        "`sparse=False`."
                    )
                g = -g if group["maximize"] else g
                found[p] = self._entry(index, name, p, g, made, shared)
        return list(found.values())

    def _layout(self, name: str | None, p: Tensor, made: "_Made") -> tuple[Layout, Values | None]:
        """The layout of a parameter's state; where it is made anew, the beginning of that too."""
        key = (name, made.kind, p.shape, p.dtype, p.device)
        known = self._layouts.get(p)
        if known is not None and known[0] == key:
            return known[1], None
        where, begun = begin(made.tx, name, p)
        self._layouts[p] = (key, where)
        return where, begun

    def _entry(
        self,
        index: int,
        name: str | None,
        p: Tensor,
        g: Tensor,
        made: "_Made",
        shared: dict[str, Tensor],
    ) -> "_Active":
        where, begun = self._layout(name, p, made)
        old = self.state.get(p, {})
        stored = old
        if any(key not in old for key in where.keys):
            stored = {**(begun or begin(made.tx, name, p)[1]), **old}
            for key in where.shared.difference(old):  # a late joiner takes that of the others
                stored[key] = self._anywhere(key, stored[key])
        for key in where.shared:
            stored = {**stored, key: shared.setdefault(key, stored[key])}
        slots, memory = where.unpack(stored)
        clock = [stored[key] for key in where.memory_at if key not in where.shared]
        step = old.get(STEP)
        if step is None:  # torch's SGD keeps no step: with slots there, this is not the first
            first = not any(key in old for key in where.keys)
            step = self._clock(0.0 if first else 1.0, p, self.param_groups[index])
        return _Active(index, name, p, g, made, where, slots, memory, step, clock)

    def _anywhere(self, key: str, default: Tensor) -> Tensor:
        """What any parameter has under a key that all have in common."""
        found = (s[key] for s in self.state.values() if isinstance(s, dict) and key in s)
        return next(found, default)

    def _commit(
        self, one: "_Active", u: Tensor, slots: Any, memory: Any, updates: Tensor | None
    ) -> None:
        p = one.p
        (torch.view_as_real(p) if p.is_complex() else p).add_(u if p.is_complex() else u.view_as(p))
        new = one.layout.pack(_leaves.lower_slots(slots, one.slots), memory)
        new[STEP] = one.step + 1
        if updates is not None:
            new[UPDATES] = updates
        self._write(p, new)

    def _write(self, p: Tensor, new: Mapping[str, Tensor]) -> None:
        """Puts tensors into the state of `p`, in place where there are some."""
        state = self.state[p]
        for key, value in new.items():
            if key in state and not self.defaults["differentiable"]:
                if state[key] is not value:
                    state[key].copy_(value)
            else:
                # A tensor of all parameters becomes one of this one alone.
                state[key] = value.clone() if value.dim() == 0 else value

    def _updates(self) -> Tensor | None:
        """How many steps the optimizer has made; `None` where no schedule asks."""
        if not any(self._schedules):
            return None
        kept = [s[UPDATES] for s in self.state.values() if isinstance(s, dict) and UPDATES in s]
        return max(kept, key=float) if kept else torch.zeros((), dtype=_clock_dtype())

    def _clock(self, value: float, p: Tensor, group: Mapping[str, Any]) -> Tensor:
        device = p.device if group.get("capturable") else "cpu"
        return torch.tensor(value, dtype=_clock_dtype(), device=device)

    # State: made at the first step that needs it, or on request.

    def init_state(self) -> None:
        """Creates the state of all parameters as it is before their first step.

        So that a checkpoint from before the first step is complete, and no step has to be made for
        it. What exists already is kept.
        """
        for index, group in enumerate(self.param_groups):
            made = self._group(index)
            for name, p in _named(group):
                if p.is_floating_point() or p.is_complex():
                    _, begun = begin(made.tx, name, p)
                    begun[STEP] = self._clock(0.0, p, group)
                    if (updates := self._updates()) is not None:
                        begun[UPDATES] = updates
                    old = self.state.get(p, {})
                    self._write(p, {k: v for k, v in begun.items() if k not in old})

    def _is_probe(self) -> bool:
        """Whether this is the step by which `torch.distributed.checkpoint` asks for the state."""
        if any("lr" in group and number(group["lr"]) != 0 for group in self.param_groups):
            return False
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        return any(g is not None for g in grads) and not any(
            bool(g.any()) for g in grads if g is not None
        )

    # Looking on.

    def metrics(self) -> dict[str, Any]:
        """What the stages say of the last step, such as the norm before clipping, as tensors.

        Keys are those of hyperparameters: the first stage owns the bare name. Where groups differ,
        the value is a list with one entry for each group that took part. Nothing is computed, and
        no device synchronised, before a value is read.
        """
        if self._last is None:
            return {}
        found = self._made[self._last_groups[0]].tx.nodes(self._last)
        pairs, values = [], []
        for label, (stage, node) in zip(labels(s for s, _ in found), found, strict=True):
            for name in stage.metrics:
                rows = [row.get(name) for row in node.rows]
                pairs.append((label, name))
                values.append(rows[0] if all(same(row, rows[0]) for row in rows) else rows)
        return dict(zip(unique_keys(pairs), values, strict=True))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context, the parameters are those to evaluate with; after it, they are back.

            with opt.averaged():
                validate(model)

        Raises:
            StructureError: If no stage keeps an average.
        """
        kept: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for index, group in enumerate(self.param_groups):
                made = self._group(index)
                for name, p in _named(group):
                    if p in self.state:
                        where, _ = self._layout(name, p, made)
                        slots, _ = where.unpack(self.state[p])
                        value = made.tx.eval_param(name, p, slots)
                        if value is not p:
                            kept.append((p, p.clone()))
                            p.copy_(value)
        if self.state and not kept:
            raise StructureError(
                f"`{type(self).__name__}`: no stage of {self.tx!r} keeps an average: add "
                "`ema_of_params()` at the end."
            )
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in kept:
                    p.copy_(value)

    # Saving and loading.

    def state_dict(self) -> dict[str, Any]:
        """The state, as torch has it: a dict of tensors for every parameter, and the groups."""
        saved = super().state_dict()
        for group in saved["param_groups"]:
            group[FORMAT] = 1
        return saved

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Loads what `state_dict` returned, here or by the torch class of the same algorithm.

        Where both sides have the names of the parameters, they are matched by name, in any order;
        else by position. Every tensor gets the dtype that it would have been created in.

        Args:
            state_dict: The state to load; it is copied.
            strict: Whether a parameter that is missing, unknown or of another shape is an error.
                Else it starts afresh, or is left out.

        Raises:
            StructureError: Listing all that does not fit. Nothing is changed.
        """
        remembered: list[Any] = []

        def remember(_: Any, found: dict[str, Any]) -> dict[str, Any]:
            fitting = by_name(self, found, strict)
            remembered.append(fitting)
            return fitting

        handle = self.register_load_state_dict_pre_hook(remember)
        self._loading = remembered
        try:
            super().load_state_dict(state_dict)
        finally:
            del self._loading
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("tx", "_schedules", "_shown")
        return {**super().__getstate__(), **{key: self.__dict__[key] for key in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            group.pop(FORMAT, None)
            own = self._defaults(next(_named(group), None))
            for key, value in {**self.defaults, **own}.items():
                if key in own or key not in self._defaults():
                    group.setdefault(key, value)
        if "_loading" in self.__dict__:
            self._take_over(self._loading[-1])

    def _take_over(self, loaded: dict[str, Any]) -> None:
        """Replaces what the base class has cast to the parameters' dtypes by what was saved."""
        for group, schedules, shown in zip(
            self.param_groups, self._schedules, self._shown, strict=True
        ):
            shown.update({key: group[key] for key in schedules})
        for index, (mine, saved) in enumerate(
            zip(self.param_groups, loaded["param_groups"], strict=True)
        ):
            for (name, p), place in zip(_named(mine), saved["params"], strict=True):
                stored = loaded["state"].get(place)
                if isinstance(stored, dict) and stored:
                    templates = begin(self._group(index).tx, name, p)[0].templates()
                    self.state[p].update(as_created(templates, stored, p, mine, _clock_dtype()))


class _Made(NamedTuple):
    """The transformation made of a group's values."""

    values: Values
    tx: PerTensor
    kind: tuple[Any, ...]  # what of the values decides which slots there are


class _Active(NamedTuple):
    """One parameter that takes part in a step."""

    group: int
    name: str | None
    p: Tensor
    g: Tensor
    made: _Made
    layout: Layout
    slots: Any
    memory: Any
    step: Tensor
    clock: list[Tensor]  # the entries of memory that are this parameter's own


def with_lr(tx: GradientTransformation) -> GradientTransformation:
    """`tx`, with a factor `lr` at the end if it has none: in front of what has to come last."""
    if "lr" in hyperparams(tx):
        return tx
    stages = list(tx.stages) if isinstance(tx, chain) else [tx]
    last = len(stages)
    while last and getattr(stages[last - 1], "comes_last", False):
        last -= 1
    stages.insert(last, scale_by_learning_rate(1.0, flip_sign=False))
    return chain(*stages)


def number_or_id(scalar: Tensor) -> Any:
    """What tells clocks apart: their number, or, where that cannot be looked at, themselves."""
    seen = number(scalar)
    return id(scalar) if isinstance(seen, Tensor) else seen


def _named(group: Mapping[str, Any]) -> Iterator[Named]:
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


def _clock_dtype() -> torch.dtype:
    """The dtype of clocks, as torch's optimizers have it."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)
