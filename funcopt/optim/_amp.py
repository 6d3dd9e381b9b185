"""Mixed precision: what a `torch.amp.GradScaler` tells a step, which reads it where it is."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.stage import Node
from .._core.tensor_rule import GradientTransformation, PerTensor
from ..combinators import unscaled
from ..engine import StepInputs, is_device
from ._groups import ParameterGroups
from ._log import Recorder
from ._metrics import Step
from ._options import Options, named_parameters
from ._state import State, StateStore
from ._state_layout import STEP, UPDATES, clock_dtype
from ._step_plan import StepPlan


class Scaling(NamedTuple):
    """What a scaler has set for one step."""

    found_inf: Tensor  # (): not 0 if a gradient is infinite or NaN
    grad_scale: Any  # a number or (), what the gradients have been multiplied by

    def around(self, inputs: StepInputs) -> tuple[PerTensor, StepInputs]:
        """A transformation that divides the gradients, or does nothing; and the inputs for it."""
        made = {id(b.tx): b.tx for b in inputs.buckets}
        made = {key: unscaled(tx, self.found_inf, self.grad_scale) for key, tx in made.items()}
        buckets = [b._replace(tx=made[id(b.tx)]) for b in inputs.buckets]
        return buckets[0].tx, inputs._replace(tx=buckets[0].tx, buckets=buckets)

    def updates(self) -> Tensor:
        """How many updates the step makes: 1 or 0."""
        return (self.found_inf == 0).to(clock_dtype())


def step_made(tx: Any, node: Node, group_of: Sequence[int], scaling: Scaling | None) -> Step:
    """A step as metrics see it: of the chain, without what is around that because of a scaler."""
    if scaling is None:
        return Step(tx, node, group_of)
    return Step(tx.inner, node.children[0], group_of, scaling.found_inf)


class ScalableOptimizer(torch.optim.Optimizer):
    """An optimizer that a `GradScaler` does not have to wait for."""

    tx: GradientTransformation
    measure_group: Any = None

    _groups: ParameterGroups
    _store: StateStore
    _plan: StepPlan | None

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `step` itself divides the gradients, and is left out if one is not finite.

        A `GradScaler` asks this. It then sets `grad_scale` and `found_inf` for the step, and waits
        for no device. All counts and shared scalars have to be on devices then, as what is left
        out is known only there.
        """
        if self.defaults["differentiable"] or self._needs_closure or self.tx.takes_examples():
            return False
        if self.measure_group is not None:  # each rank may have found something else
            return False
        hooks = self._optimizer_step_post_hooks.values()
        if any(isinstance(getattr(hook, "__self__", None), Recorder) for hook in hooks):
            return False  # which count the updates
        if self._plan is not None:
            return self._plan.counts_on_device
        return counts_on_device(self.param_groups, self.state, self._groups, self._store)

    @functools.cached_property
    def _needs_closure(self) -> bool:
        return self.tx.needs_closure

    def _scaling(self) -> Scaling | None:
        """What a scaler has set for this step; `None` if nothing."""
        found_inf = getattr(self, "found_inf", None)
        if not isinstance(found_inf, Tensor):  # without any gradient
            return None
        scale = getattr(self, "grad_scale", None)  # none where gradients are unscaled already
        return Scaling(found_inf.reshape(()), 1.0 if scale is None else scale)


def counts_on_device(
    param_groups: list[Options], state: State, groups: ParameterGroups, store: StateStore
) -> bool:
    """Whether all counts and shared scalars are on devices, or begin there."""
    for index, group in enumerate(param_groups):
        if group["params"] and not group.get("capturable"):
            return False
        begin: dict[torch.device, bool] = {}
        for name, p in named_parameters(group):
            if own := state.get(p):
                keys = (STEP, UPDATES, *store.layout(param_groups, index, name, p).memory_at)
                if not all(is_device(own[key].device) for key in keys if key in own):
                    return False
            else:
                begin[p.device] = is_device(p.device)
        if not all(begin.values()):
            return False
    return True
