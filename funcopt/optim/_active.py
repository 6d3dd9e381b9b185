"""The parameters that take part in a step: those with a gradient, or an update that is due."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._core.due import awaits, due
from ..typing import Memory, Slots
from ._clocks import Known, counting, note
from ._factory import GroupTransformation
from ._gradients import check_dense, gradient
from ._groups import ParameterGroups
from ._options import Options, named_parameters
from ._state import State, StateStore, new_clock
from ._state_layout import STEP, UPDATES, StateLayout


class ActiveParameter(NamedTuple):
    """One parameter that takes part in a step, with all that its update needs."""

    group: int
    name: str | None
    p: Tensor
    transformation: GroupTransformation
    layout: StateLayout
    slots: Slots
    memory: Memory
    step: Tensor
    clock: list[Tensor]  # the entries of memory that are this parameter's own
    stored: bool  # whether all of it is in the state already
    due: bool  # whether it has no gradient, and takes part with zeros


def active_parameters(
    param_groups: list[Options],
    state: State,
    groups: ParameterGroups,
    store: StateStore,
    shared: Callable[[], Mapping[int, Sequence[Tensor]]] | None = None,
) -> tuple[list[ActiveParameter], list[Tensor]]:
    """The parameters that take part, each once, in the order of the groups; and their gradients.

    Where these are only some of the parameters, `shared` finds the memory that all have in common.

    Raises:
        SparseGradientError: If a gradient is sparse.
        StructureError: If one gradient is there for all examples, and one for each is needed.
    """
    who, tx = groups.who, groups.factory.tx
    found: dict[Tensor, tuple[ActiveParameter, Tensor]] = {}
    defers = awaits(tx)
    of_these = functools.cache(lambda: store.shared(param_groups, state))  # once, if at all
    shared = of_these if shared is None else shared
    scheduled = any(groups.schedules)
    for index, group in enumerate(param_groups):
        grads = [gradient(who, tx, p) for p in group["params"]]
        zeros: dict[int, Tensor] = {}
        if defers and any(g is None for g in grads):
            zeros = _due(param_groups, index, grads, state, groups, store)
            grads = [zeros.get(j, g) for j, g in enumerate(grads)]
        if all(g is None for g in grads):
            continue
        transformation = groups.transformation(param_groups, index)
        for j, (name, p) in enumerate(named_parameters(group)):
            g = grads[j]
            if g is None or p in found:
                continue
            check_dense(who, name or f"{index}.{j}", g)
            old = state.get(p, {})
            layout, stored = store.read(state, name, p, transformation, group)
            for key in (key for key in layout.memory_at if key not in old):
                note(stored[key], Known((key, transformation.slots_key, p.dtype)))
            if layout.shared:  # which a late joiner takes from the others
                at = {key: layout.memory_at[key] for key in layout.shared}
                stored = {**stored, **{k: shared()[i][0] for k, i in at.items() if i in shared()}}
            slots, memory = layout.unpack(stored)
            step = old.get(STEP)
            if step is None:  # torch's SGD keeps no step: with slots there, this is not the first
                first = not any(key in old for key in layout.keys)
                step = new_clock(0.0 if first else 1.0, p, group)
            step = counting(step)
            updates = old.get(UPDATES)
            counted = step is old.get(STEP) and (updates is None or counting(updates) is updates)
            complete = counted and all(key in old for key in layout.keys)
            one = ActiveParameter(
                group=index,
                name=name,
                p=p,
                transformation=transformation,
                layout=layout,
                slots=slots,
                memory=memory,
                step=step,
                clock=[stored[key] for key in layout.memory_at if key not in layout.shared],
                stored=complete and (UPDATES in old or not scheduled),
                due=j in zeros,
            )
            found[p] = one, g
    return [one for one, _ in found.values()], [g for _, g in found.values()]


def _due(
    param_groups: list[Options],
    index: int,
    grads: list[Tensor | None],
    state: State,
    groups: ParameterGroups,
    store: StateStore,
) -> dict[int, Tensor]:
    """Zeros for the parameters of a group to which an update is due although they have no gradient.

    They stand at the places of these in the group.
    """
    found: dict[int, Tensor] = {}
    for j, (name, p) in enumerate(named_parameters(param_groups[index])):
        if grads[j] is not None or not state.get(p):
            continue
        transformation = groups.transformation(param_groups, index)
        layout, stored = store.read(state, name, p, transformation, param_groups[index])
        if bool(due(transformation.tx, name, p, layout.unpack(stored)[0])):
            found[j] = torch.zeros_like(p, requires_grad=False)
    return found
