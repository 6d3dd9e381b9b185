"""Any transformation as a `torch.optim.Optimizer`."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _leaves, _pass
from .._base import GradientTransformation, PerTensor
from .._math import is_zero, number
from ..combinators import chain, hyperparams, walk, with_hyperparams
from ..errors import HyperparameterError, SparseGradientError, StructureError
from ..transforms import scale_by_learning_rate
from ._layout import STEP, UPDATES, Layout, layout

Values = dict[str, Any]


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
    value that the next step will use. One pass runs over all groups: a global norm spans them.

    Each `state[p]` is a flat dict of tensors, named as torch names them, filled at the first step
    that needs it and updated in place.

    Args:
        params: Tensors, named tensors or groups, as for any torch optimizer. Groups may set any
        key. tx: The transformation; its signs must make it descend. maximize: Ascend instead, by
        negating the gradients first. May differ between groups.

    Raises:
        HyperparameterError: If a value is out of range, or groups differ in more than numbers.
        StructureError: If `tx` has a stage that sees whole trees.
    """

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
        if "lr" not in hyperparams(tx):
            tx = chain(tx, scale_by_learning_rate(1.0, flip_sign=False))
        self.tx = tx
        defaults = {**hyperparams(tx), "maximize": maximize, "differentiable": False}
        self._set_up(params, defaults)

    def _set_up(self, params: Iterable[Any], defaults: Values) -> None:
        self._keys = tuple(self._hyperparameters(defaults))
        self._schedules: list[Values] = []  # by group: the schedules behind its numbers
        self._shown: list[Values] = []  # by group: the numbers last written there
        self._made: dict[int, _Made] = {}  # by group: the chain made of its values
        super().__init__(params, defaults)

    # What a class made by `optimizer_class` does in another way.

    def _hyperparameters(self, defaults: Values) -> Iterable[str]:
        """The keys of a group that the transformation is made of."""
        return hyperparams(self.tx)

    def _make(self, values: Values) -> GradientTransformation:
        """The transformation with the values of a group."""
        return with_hyperparams(self.tx, values)

    def _built(self, values: Values) -> PerTensor:
        tx = self._make(values)
        if not isinstance(tx, PerTensor) or not tx.is_per_tensor():
            raise StructureError(
                f"`{type(self).__name__}` runs tensor by tensor, and a stage of {self.tx!r} sees "
                "whole trees. Use the pure form, or write that stage as a `TensorRule`."
            )
        return tx

    # Groups: the only truth for hyperparameters.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        index = len(self.param_groups)
        values = {k: param_group.get(k, self.defaults[k]) for k in self._keys}
        tx = self._built(values)  # checks the values before anything changes
        self._check_structure(index, tx)
        super().add_param_group(param_group)
        self._made[index] = _Made(values, tx, {})
        scheduled = {k: v for k, v in values.items() if _has_schedule(v)}
        self._schedules.append(scheduled)
        self._shown.append({})
        self._show(index, self._updates())

    def _check_structure(self, index: int, tx: GradientTransformation) -> None:
        first = walk(self._group_tx(0).tx) if index else []
        for (path, a), (_, b) in zip(first, walk(tx), strict=False):
            fields = [f for f in a.__dict__ if f not in a.hyperparameters and f != "stages"]
            for name in fields:
                if type(a) is not type(b) or a.__dict__[name] != b.__dict__[name]:
                    raise HyperparameterError(
                        f"`{type(self).__name__}`: `{name}` of stage {'/'.join(path)} must be the "
                        f"same in all groups, got {a.__dict__[name]!r} in group 0 and "
                        f"{b.__dict__.get(name)!r} in group {index}: only numbers may differ."
                    )

    def _show(self, index: int, updates: Any) -> None:
        """Writes the current values of schedules into a group."""
        group = self.param_groups[index]
        for key, value in self._schedules[index].items():
            group[key] = self._shown[index][key] = _evaluated(value, updates)

    def _group_tx(self, index: int) -> "_Made":
        """The transformation of a group, made anew where a value has changed."""
        group, made = self.param_groups[index], self._made.get(index)
        values = {}
        for key in self._keys:
            value = group[key]
            if key in self._schedules[index]:
                if not _same(value, self._shown[index][key]):
                    raise HyperparameterError(
                        f"`{type(self).__name__}`: `{key}` of group {index} follows "
                        f"{self._schedules[index][key]!r} and cannot be set, got {value!r}. Use "
                        "the schedule or a scheduler, not both."
                    )
                value = self._schedules[index][key]
            elif isinstance(value, Tensor) and value.dim() == 1:
                value = value.squeeze(0)
            values[key] = value
        if made is None or any(not _same(values[k], made.values[k]) for k in values):
            tx, layouts = self._built(values), {}
            if made is not None and all(_kind(values[k]) == _kind(made.values[k]) for k in values):
                layouts = made.layouts
            else:
                self._check_structure(index, tx)
            made = self._made[index] = _Made(values, tx, layouts)
        return made

    # Stepping.

    def step(self, closure: Callable[[], Any] | None = None, **extra: Any) -> Any:
        """Takes one step.

        Args:
            closure: Computes the loss and its gradients anew; it is called once, with gradients
                enabled, and its value returned.
            **extra: Extra arguments of the transformation's `update`.

        Raises:
            SparseGradientError: If a gradient is sparse. Nothing is changed.
            HyperparameterError: If a value in `param_groups` is out of range, or was set although
            it
                follows a schedule. Nothing is changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            self._step_impl(extra)
        return loss

    def _step_impl(self, extra: Mapping[str, Any]) -> None:
        active = self._active()
        if not active:
            return
        updates = self._updates()
        buckets: dict[Any, int] = {}
        rows: list[_pass.Bucket] = []
        which, gs, slots, ps = [], [], [], []
        for one in active:
            key = (one.group, _key(one.step), *map(_key, _leaves.entries(one.memory)))
            if key not in buckets:
                buckets[key] = len(rows)
                now = number(one.step) + 1
                count = now - 1 if updates is None else number(updates)
                rows.append(_pass.Bucket(one.tx, now, count, one.memory))
            which.append(buckets[key])
            wide = _leaves.compute_dtype(one.g, one.p, one.slots)
            gs.append(_leaves.lift(one.g, wide))
            ps.append(_leaves.lift(one.p, wide))
            slots.append(_leaves.lift_slots(one.slots, one.g, wide))
        tx = active[0].tx
        tx.check_extra(extra)
        members = _pass.Members(
            which, dict(extra), {}, lambda: [one.name for one in active], [one.p for one in active]
        )
        node = tx.open(rows, members)
        us, new = tx.run(gs, slots, ps, node, _pass.reduce)
        memories = tx.memory_after(node)
        after = None if updates is None else updates + 1
        for i, one in enumerate(active):  # nothing has been changed before
            self._commit(one, us[i], new[i], memories[which[i]], after)
        if after is not None:
            for index in range(len(self.param_groups)):
                self._show(index, after)

    def _active(self) -> list["_Active"]:
        """The parameters that have a gradient, each once, with all that their update needs."""
        found: dict[Tensor, _Active] = {}
        for index, group in enumerate(self.param_groups):
            for j, p in enumerate(group["params"]):
                g = p.grad
                if g is None or p in found:
                    continue
                name = group["param_names"][j] if "param_names" in group else None
                if g.layout is not torch.strided:
                    raise SparseGradientError(
                        f"`{type(self).__name__}` does not support sparse gradients, and that of "
                        f"parameter `{name or f'{index}.{j}'}` is: build the embedding with "
                        "`sparse=False`."
                    )
                made = self._group_tx(index)
                found[p] = self._entry(index, name, p, -g if group["maximize"] else g, made)
        return list(found.values())

    def _entry(
        self, index: int, name: str | None, p: Tensor, g: Tensor, made: "_Made"
    ) -> "_Active":
        like = (p.shape, p.dtype, p.device, type(p))
        if like not in made.layouts:
            made.layouts[like] = layout(made.tx, name, p)
        where = made.layouts[like]
        old = self.state.get(p, {})
        stored, step = dict(old), old.get(STEP)
        if any(key not in old for key in where.keys):
            begun = where.pack(
                made.tx.init_slots(name, p.detach()), made.tx.init_memory(_leaves.like([p]))
            )
            stored = {**begun, **old}
        if step is None:  # torch's SGD keeps no step: with slots there, this is not the first
            device = p.device if self.param_groups[index].get("capturable") else "cpu"
            first = not any(key in old for key in where.keys)
            step = torch.tensor(0.0 if first else 1.0, dtype=_clock_dtype(), device=device)
        slots, memory = where.unpack(stored)
        return _Active(index, name, p, g, made.tx, where, slots, memory, step)

    def _commit(
        self, one: "_Active", u: Tensor, slots: Any, memory: Any, updates: Tensor | None
    ) -> None:
        p = one.p
        (torch.view_as_real(p) if p.is_complex() else p).add_(u if p.is_complex() else u.view_as(p))
        new = one.layout.pack(_leaves.lower_slots(slots, one.slots), memory)
        new[STEP] = one.step + 1
        if updates is not None:
            new[UPDATES] = updates
        state = self.state[p]
        for key, value in new.items():
            if key in state and not self.defaults["differentiable"]:
                state[key].copy_(value)
            else:
                state[key] = value

    def _updates(self) -> Tensor | None:
        """How many steps the optimizer has made; `None` where no schedule asks."""
        if not any(self._schedules):
            return None
        kept = [s[UPDATES] for s in self.state.values() if isinstance(s, dict) and UPDATES in s]
        return max(kept, key=float) if kept else torch.zeros((), dtype=_clock_dtype())

    # Saving and loading.

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned, here or by the torch class of the same algorithm.

        Every tensor gets the dtype that it would have been created in, not that of the parameter.
        """
        remembered: list[Any] = []
        handle = self.register_load_state_dict_pre_hook(lambda _, d: remembered.append(d))
        try:
            self._loading = remembered
            super().load_state_dict(state_dict)
        finally:
            del self._loading
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("tx", "_keys", "_schedules", "_shown")
        return {**super().__getstate__(), **{k: self.__dict__[k] for k in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)
        self._made = {}
        if "_loading" in self.__dict__:
            self._adopt(self._loading[-1])

    def _adopt(self, loaded: dict[str, Any]) -> None:
        """Replaces what the base class has cast to the parameters' dtypes by what was saved."""
        self._shown = [
            {key: group[key] for key in schedules}
            for group, schedules in zip(self.param_groups, self._schedules, strict=True)
        ]
        for index, (mine, saved) in enumerate(
            zip(self.param_groups, loaded["param_groups"], strict=True)
        ):
            for p, name in zip(mine["params"], saved["params"], strict=True):
                stored = loaded["state"].get(name)
                if isinstance(stored, dict) and stored:
                    where = layout(self._group_tx(index).tx, None, p)
                    self.state[p].update(_as_created(where, stored, p, mine))


class _Made(NamedTuple):
    """The transformation made of a group's values, and the layouts of its parameters' states."""

    values: Values
    tx: PerTensor
    layouts: dict[Any, Layout]


class _Active(NamedTuple):
    """One parameter that takes part in a step."""

    group: int
    name: str | None
    p: Tensor
    g: Tensor
    tx: PerTensor
    layout: Layout
    slots: Any
    memory: Any
    step: Tensor


def _as_created(
    where: Layout, stored: Mapping[str, Any], p: Tensor, group: Mapping[str, Any]
) -> Values:
    """The tensors of a checkpoint in the dtypes of `where`, on the device of `p`."""
    out: Values = {}
    for key, value in stored.items():
        dtype = where.dtype(key)
        if key in (STEP, UPDATES):
            device = p.device if group.get("capturable") else torch.device("cpu")
            out[key] = torch.as_tensor(value, dtype=_clock_dtype()).to(device, copy=True)
        elif dtype is not None and value is not None:
            out[key] = torch.as_tensor(value).to(p.device, dtype, copy=True)
    return out


def _clock_dtype() -> torch.dtype:
    """The dtype of clocks, as torch's optimizers have it."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)


def _has_schedule(value: Any) -> bool:
    return any(map(callable, value)) if isinstance(value, (tuple, list)) else callable(value)


def _evaluated(value: Any, updates: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_evaluated(part, updates) for part in value)
    return number(value(number(updates))) if callable(value) else value


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one, without a look into tensors."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def _kind(value: Any) -> Any:
    """What of a value decides which slots there are."""
    numeric = isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)
    return is_zero(value) if numeric else value


def _key(scalar: Tensor) -> Any:
    """What tells clocks apart: their number, or, where that cannot be looked at, themselves."""
    seen = number(scalar)
    return id(scalar) if isinstance(seen, Tensor) else seen
