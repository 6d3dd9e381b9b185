"""The state of an optimizer: a flat dict of tensors for every parameter, and nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._core import precision
from .._core.average import only_average
from .._core.tensor_rule import GradientTransformation, PerTensor, TensorRule
from .._numerics import shards
from .._numerics.scalars import full, moved
from ..combinators import walk
from ..typing import Memory
from ._clocks import Known, counting, latest, note, packed_in_vector
from ._factory import GroupTransformation
from ._groups import ParameterGroups
from ._offload import Offload
from ._options import Options, named_parameters, same_value
from ._state_layout import STEP, UPDATES, StateLayout, clock_dtype, initial_state

State = dict[Any, Any]
"""What torch keeps as `optimizer.state`: by parameter, a dict of tensors by key."""


class StateStore:
    """Reads and writes the state of parameters, entry by entry: what is missing, it begins.

    Groups and state are the optimizer's, and are handed in: they may be exchanged for a step.
    """

    def __init__(self, groups: ParameterGroups, offload: Offload) -> None:
        self.groups, self.offload = groups, offload
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"groups": self.groups, "offload": self.offload}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.forget()

    def forget(self) -> None:
        """Drops what can be made again."""
        self._layouts: dict[Tensor, tuple[Any, StateLayout]] = {}  # by parameter
        self._idle: Memory | None = None  # after steps without a gradient on this rank
        self.offload.forget()

    def settle(self, param_groups: list[Options], state: State) -> None:
        """Drops what is known of parameters that are in no group any more."""
        self.offload.settle(param_groups, state)
        here = [p for group in param_groups for p in group["params"]]
        known = self._layouts
        self._layouts = {p: known[p] for p in here if p in known}

    # Reading.

    def average(
        self,
        param_groups: list[Options],
        state: State,
        index: int,
        name: str | None,
        p: Tensor,
        which: str | None,
    ) -> Tensor | None:
        """The average of a parameter, of this name if there is one; `None` if no stage keeps it."""
        if not (p.is_floating_point() or p.is_complex()):
            return None
        transformation = self.groups.transformation(param_groups, index)
        layout, stored = self.read(state, name, p, transformation, param_groups[index])
        with self.offload.beside(p):
            tx = only_average("eval", transformation.tx, which)
            value = tx.eval_param(name, p, *layout.unpack(stored))
        return None if value is p else value

    def layout(
        self, param_groups: list[Options], index: int, name: str | None, p: Tensor
    ) -> StateLayout:
        """The layout of what the state of a parameter holds when it is created."""
        return self._layout(name, p, self.groups.transformation(param_groups, index))[0]

    def shared(self, param_groups: list[Options], state: State) -> dict[int, list[Tensor]]:
        """All copies of the memory that parameters have in common, by its place in the memory."""
        found: dict[int, list[Tensor]] = {}
        idle: set[int] = set()
        for index, group in enumerate(param_groups):
            if not group["params"]:
                continue
            transformation = self.groups.transformation(param_groups, index)
            for name, p in named_parameters(group):
                stored = state.get(p, {})
                layout, _ = self._layout(name, p, transformation)
                for key in layout.shared.intersection(stored):
                    found.setdefault(layout.memory_at[key], []).append(stored[key])
                if self._idle is not None:
                    idle.update(layout.memory_at[key] for key in layout.shared)
        for at in idle:
            found.setdefault(at, []).append(precision.entries(self._idle)[at])
        return found

    def idle_memory(
        self, param_groups: list[Options], state: State, tx: PerTensor, p: Tensor
    ) -> Memory:
        """The memory for a step without a gradient on this rank."""
        with self.offload.beside(p):
            began = tx.init_memory(precision.zero_like([p]))
        memory = began if self._idle is None else self._idle
        tensors = precision.entries(memory)
        for at, copies in self.shared(param_groups, state).items():
            tensors[at] = copies[0]
        each = iter(tensors)
        return precision.map_slots(lambda _: next(each), memory)

    def updates(self, param_groups: list[Options], state: State) -> Tensor | None:
        """How many steps the optimizer has made; `None` where no schedule asks."""
        if not any(self.groups.schedules):
            return None
        kept = [s[UPDATES] for s in state.values() if isinstance(s, dict) and UPDATES in s]
        if kept:
            return counting(latest(kept))
        each = ((p, group) for group in param_groups for p in group["params"])
        device = next((clock_device(*one) for one in each), torch.device("cpu"))
        return torch.zeros((), dtype=clock_dtype(), device=device)

    def counts(
        self, param_groups: list[Options], state: State, index: int, updates: Any
    ) -> Options:
        """The updates that the stage of each hyperparameter has made, where it counts itself."""
        tx = self.groups.transformation(param_groups, index).tx
        of = list(named_parameters(param_groups[index]))
        if not of:
            return {}
        memory = tx.init_memory(precision.zero_like([of[0][1]]))
        tensors = precision.entries(memory)
        if not tensors:  # no stage has a clock of its own
            return {}
        for place, copies in self.shared(param_groups, state).items():
            tensors[place] = copies[0]
        each = iter(tensors)
        counts = tx.counts(updates, precision.map_slots(lambda _: next(each), memory))
        by_path = {"/".join(path): count for path, count in counts.items()}
        fields = self.groups.factory.field_paths(tx, of)
        found = {key: "/".join(path) for key, (path, _) in fields.items()}
        return {key: by_path[path] for key, path in found.items() if path in by_path}

    def _layout(
        self, name: str | None, p: Tensor, transformation: GroupTransformation
    ) -> tuple[StateLayout, dict[str, Tensor] | None]:
        """The layout of a parameter's state; where it is new, the initial state too."""
        key = (name, transformation.slots_key, p.shape, p.dtype, p.device)
        known = self._layouts.get(p)
        if known is not None and known[0] == key:
            return known[1], None
        with self.offload.beside(p):
            layout, initial = initial_state(transformation.tx, name, p)
        self._layouts[p] = (key, layout)
        return layout, initial

    def initial(
        self, tx: PerTensor, name: str | None, p: Tensor, group: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        with self.offload.beside(p):
            return where_counts_are(*initial_state(tx, name, p), p, group)

    def read(
        self,
        state: State,
        name: str | None,
        p: Tensor,
        transformation: GroupTransformation,
        group: Mapping[str, Any],
    ) -> tuple[StateLayout, dict[str, Tensor]]:
        """The layout of a parameter's state, and its tensors; those not there yet as they begin."""
        layout, initial = self._layout(name, p, transformation)
        stored = state.get(p, {})
        if any(key not in stored for key in layout.keys):
            if initial is None:
                initial = self.initial(transformation.tx, name, p, group)
            stored = {**where_counts_are(layout, initial, p, group), **stored}
        return layout, stored

    # Writing.

    def complete(self, param_groups: list[Options], state: State) -> set[str]:
        """Creates entries that are missing beside others, as after a momentum was switched on.

        Returns:
            The keys of all entries that are there; others are notes of users.
        """
        self.groups.check_state(param_groups, state)
        new: dict[Tensor, dict[str, Tensor]] = {}
        keys: set[str] = set()
        for index, group in enumerate(param_groups):
            for name, p in named_parameters(group):
                old = state.get(p)
                if not old:
                    continue
                transformation = self.groups.transformation(param_groups, index)
                layout, _ = self._layout(name, p, transformation)
                missing = [key for key in layout.keys if key not in old]
                if STEP not in old and len(missing) == len(layout.keys):
                    continue
                keys.update(layout.keys)
                if missing:
                    _, stored = self.read(state, name, p, transformation, group)
                    new[p] = {key: stored[key] for key in missing}
        self.write(state, new, replace=False)
        return keys

    def initialize(self, param_groups: list[Options], state: State, replace: bool) -> None:
        """Creates the state of all parameters that require gradients; what exists is kept."""
        self.settle(param_groups, state)
        updates = self.updates(param_groups, state)
        new: dict[Tensor, dict[str, Tensor]] = {}
        for index, group in enumerate(param_groups):
            transformation = self.groups.transformation(param_groups, index)
            for name, p in named_parameters(group):
                if p.requires_grad:
                    initial = self.initial(transformation.tx, name, p, group)
                    initial[STEP] = new_clock(0.0, p, group)
                    if updates is not None:
                        initial[UPDATES] = moved(updates, clock_device(p, group))
                    old = state.get(p, {})
                    new[p] = {k: v for k, v in initial.items() if k not in old}
        self.write(state, new, replace)

    def write(self, state: State, new: Mapping[Tensor, dict[str, Tensor]], replace: bool) -> None:
        """Puts tensors into the states of parameters.

        Where there are some already, they are written over in place; or replaced, if autograd
        follows the steps.
        """
        pack_numbers([(state.get(p, {}), tensors) for p, tensors in new.items()])
        for p, tensors in new.items():
            _write(state[p], tensors, replace)

    def keep_idle(self, param_groups: list[Options], state: State, memory: Memory) -> None:
        """Keeps the memory after a step without a gradient on this rank."""
        after = precision.map_slots(torch.clone, memory)
        self.write_shared(param_groups, state, dict(enumerate(precision.entries(after))))
        self._idle = after

    def write_shared(
        self, param_groups: list[Options], state: State, after: Mapping[int, Tensor]
    ) -> None:
        """Writes memory that parameters have in common, by its place, to all of them."""
        for at, copies in self.shared(param_groups, state).items() if after else ():
            for copy in copies if at in after else ():
                copy.copy_(after[at])


def pack_numbers(pairs: Iterable[tuple[Mapping[str, Any], dict[str, Tensor]]]) -> None:
    """Makes one vector of the numbers that several parameters get for the first time.

    Each pair is the state of a parameter as it is, and what comes into it.
    """
    found: dict[Any, list[dict[str, Tensor]]] = {}
    for old, new in pairs:
        for key, value in new.items():
            if value.dim() == 0 and (key not in old or old[key].dtype != value.dtype):
                found.setdefault((key, value.dtype, value.device), []).append(new)
    for (key, *_), rows in found.items():
        for new, part in zip(rows, packed_in_vector([new[key] for new in rows]), strict=True):
            new[key] = part


def pack_again(state: State) -> None:
    """Makes one vector of the numbers of several parameters, which copies have one by one."""
    every = [own for own in state.values() if isinstance(own, dict)]
    numbers = [{k: x for k, x in own.items() if isinstance(x, Tensor)} for own in every]
    pack_numbers(({}, own) for own in numbers)
    for own, packed in zip(every, numbers, strict=True):
        own.update(packed)


def reads_clock(tx: GradientTransformation, name: str | None, p: Tensor) -> bool:
    """Whether the steps of a parameter depend on how many were made before."""

    def prepared(rule: TensorRule, step: int) -> Any:
        memory = rule.init_memory(precision.zero_like([p]))
        return list(rule.evaluated(0).prepare(step, memory).items())

    rules = [node for _, node in walk(tx, of=[(name, p)]) if isinstance(node, TensorRule)]
    return not all(same_value(prepared(rule, 2), prepared(rule, 1000)) for rule in rules)


def new_clock(value: float, p: Tensor, group: Mapping[str, Any]) -> Tensor:
    """A count of steps, on the device where those of the group are."""
    clock = full(value, clock_device(p, group), clock_dtype())
    note(clock, Known(value))
    return clock


def where_counts_are(
    layout: StateLayout, initial: dict[str, Tensor], p: Tensor, group: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The initial state of a parameter, its shared scalars where the counts of its group are."""
    if not group.get("capturable"):
        return initial
    device = clock_device(p, group)
    return {k: moved(x, device) if k in layout.memory_at else x for k, x in initial.items()}


def clock_device(p: Tensor, group: Mapping[str, Any]) -> torch.device:
    """Where the counts of a parameter are."""
    return p.device if group.get("capturable") else torch.device("cpu")


def _write(stored: dict[str, Any], new: Mapping[str, Tensor], replace: bool) -> None:
    for key, value in new.items():
        if key in stored and not replace and stored[key].dtype == value.dtype:
            if stored[key] is not value:
                shards.local(stored[key]).copy_(shards.local(value))
        else:  # a number of all parameters becomes one of this one alone
            stored[key] = value.clone() if replace and value.dim() == 0 else value
