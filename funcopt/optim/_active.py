"""The parameters that take part in a step: those that have a gradient."""

import functools
from typing import NamedTuple

from torch import Tensor

from ..typing import Memory, Slots
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


def active_parameters(
    param_groups: list[Options], state: State, groups: ParameterGroups, store: StateStore
) -> list[ActiveParameter]:
    """The parameters that have a gradient, each once, in the order of the groups.

    Raises:
        SparseGradientError: If a gradient is sparse.
        StructureError: If one gradient is there for all examples, and one for each is needed.
    """
    who, tx = groups.who, groups.factory.tx
    found: dict[Tensor, ActiveParameter] = {}
    shared = functools.cache(lambda: store.shared(param_groups, state))  # once, if at all
    scheduled = any(groups.schedules)
    for index, group in enumerate(param_groups):
        grads = [gradient(who, tx, p) for p in group["params"]]
        if all(g is None for g in grads):
            continue
        transformation = groups.transformation(param_groups, index)
        for j, (name, p) in enumerate(named_parameters(group)):
            g = grads[j]
            if g is None or p in found:
                continue
            check_dense(who, name or f"{index}.{j}", g)
            old = state.get(p, {})
            layout, stored = store.read(state, name, p, transformation)
            if layout.shared:  # which a late joiner takes from the others
                at = {key: layout.memory_at[key] for key in layout.shared}
                stored = {**stored, **{k: shared()[i][0] for k, i in at.items() if i in shared()}}
            slots, memory = layout.unpack(stored)
            step = old.get(STEP)
            if step is None:  # torch's SGD keeps no step: with slots there, this is not the first
                first = not any(key in old for key in layout.keys)
                step = new_clock(0.0 if first else 1.0, p, group)
            complete = STEP in old and all(key in old for key in layout.keys)
            found[p] = ActiveParameter(
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
            )
    return list(found.values())
