"""Steps of one parameter, as of an optimizer that has no other, within an iteration of them all."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .._numerics.autocast import outside_contexts
from ..engine import Engine, EngineOption
from ..typing import Memory
from ._active import active_parameters
from ._capture import check_capture
from ._groups import ParameterGroups
from ._metrics import Step
from ._options import Options
from ._state import State, StateStore
from ._step_plan import StepPlan, keys_of


class Iteration:
    """What all parameters of an iteration see: groups, clocks and memory as it has begun.

    The groups are without parameters; each parameter is stepped as if it were the only one.
    """

    def __init__(
        self,
        param_groups: list[Options],
        state: State,
        groups: ParameterGroups,
        store: StateStore,
        measure_group: Any,
    ) -> None:
        store.settle(param_groups, state)
        self.groups, self.store, self.measure_group = groups, store, measure_group
        self.updates = store.updates(param_groups, state)
        self._state = state
        self._without = [{**group, "params": []} for group in param_groups]
        self.shared = functools.cache(lambda: store.shared(param_groups, state))
        self.key_of = functools.cache(lambda: keys_of(param_groups))
        for index, group in enumerate(param_groups):
            if group["params"]:  # all values are checked before the first step
                groups.transformation(param_groups, index)

    def groups_of(self, own: "OwnStep") -> list[Options]:
        """The groups with this parameter alone."""
        found = self._without.copy()
        found[own.group] = {**found[own.group], "params": own.params}
        if "param_names" in found[own.group]:
            found[own.group]["param_names"] = own.names
        return found

    def state_of(self, p: Tensor) -> State:
        """The state with that of this parameter alone."""
        return {p: self._state[p]} if p in self._state else {}


class Made(NamedTuple):
    """A step that was made; clocks and memory are still those before it."""

    plan: StepPlan
    memories: Sequence[Memory]
    step: Step
    lasts: bool  # whether the plan is for the next iteration too


class OwnStep:
    """Steps one parameter in each iteration: what was found for the first is used again."""

    def __init__(self, group: int, name: str | None, p: Tensor, engine: EngineOption) -> None:
        self.group, self.p = group, p
        self.params, self.names = [p], [name]
        self.engine = Engine(engine)
        self._plan: StepPlan | None = None

    def is_of(self, group: int, name: str | None) -> bool:
        """Whether the parameter is where it was."""
        return self.group == group and self.names == [name]

    @outside_contexts
    def make(self, now: Iteration) -> Made | None:
        """Writes the parameter and its slots; `None` if there is nothing to do."""
        param_groups = now.groups_of(self)
        plan = self._planned(param_groups, now)
        if plan is None:
            return None
        try:
            buckets = plan.buckets(now.updates)
            inputs = plan.inputs(param_groups, buckets, {}, now.measure_group)
            inputs = inputs._replace(keys=functools.partial(_keys, self.p, now.key_of))
            if plan.device is not None:
                check_capture(now.groups.who, plan.device, buckets)
            node = self.engine.step(inputs)
        finally:
            plan.release()
        tx = inputs.tx
        memories = tx.memory_after(node) if plan.has_memory else [()] * len(plan.firsts)
        node.release()
        return Made(plan, memories, Step(tx, node, plan.group_of), plan is self._plan)

    def _planned(self, param_groups: list[Options], now: Iteration) -> StepPlan | None:
        state = now.state_of(self.p)
        kept, self._plan = self._plan, None
        if kept is not None and kept.holds(param_groups, state):
            self._plan = kept
            return kept
        parts = (now.groups, now.store)
        active, gs = active_parameters(param_groups, state, *parts, shared=now.shared)
        if not active:
            return None
        plan = StepPlan(active, gs, param_groups, state, *parts)
        if plan.lasting:
            self._plan = plan
        return plan


def write_clocks(
    made: Mapping[Tensor, Made],
    param_groups: list[Options],
    state: State,
    store: StateStore,
    updates: Tensor | None,
) -> None:
    """Writes clocks and memory at the end of an iteration, and what its steps have begun."""
    new: dict[Tensor, dict[str, Tensor]] = {}
    shared: dict[int, Tensor] = {}
    for one in made.values():
        shared.update(one.plan.shared_after(one.memories))
        if one.lasts:
            one.plan.advance(one.memories, updates, 1)
        else:
            new.update(one.plan.state_after(param_groups, one.memories, updates, 1))
    store.write(state, new, replace=False)
    for p, one in made.items():
        if not one.lasts:
            one.plan.note_written(state, {p: new[p]})
    others = {p: stored for p, stored in state.items() if p not in made}
    store.write_shared(param_groups, others, shared)


def _keys(p: Tensor, key_of: Callable[[], Mapping[Tensor, str]]) -> list[str]:
    """What random numbers of one parameter are drawn by."""
    return [key_of()[p]]
