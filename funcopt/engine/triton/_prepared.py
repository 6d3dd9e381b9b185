"""`prepare` on the device, where step counts are there: a kernel for each stage that has any.

By operations of torch, the bias corrections of Adam alone are ten launches. The kernels of all
stages become one launch (`arranged`, in `_launch`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.preparing import prepare
from ..._core.record import unchecked
from .._guards import ScalarSource, Unsupported, guards_hold
from .._scalar_code import ScalarCode, scalar_code
from .._scalar_graph import ScalarGraph, traced
from ._launch import is_available
from ._scalars import DeviceKernel

MOST = 64
"""Kinds of stages and groups that are remembered."""


class Prepared:
    """What `prepare` of the rules of a chain is, as kernels: traced once, then launched."""

    def __init__(self) -> None:
        self._known: dict[Any, ScalarCode | None] = {}

    def __call__(self, rule: Any, step: Any, memory: Any) -> Mapping[str, Any]:
        """The scalars that a rule prepares for a step."""
        if not isinstance(step, Tensor) or torch.is_grad_enabled() or not is_available(step.device):
            return prepare(rule, step, memory)
        given: Any = (rule, step, memory)
        key = (type(rule), _fixed(rule))
        code = self._known.get(key)
        if key not in self._known or (code is not None and not guards_hold(code.guards, given)):
            code = self._known[key] = _code(*given)
            if len(self._known) > MOST:
                self._known.pop(next(iter(self._known)))
        if code is None:
            return prepare(rule, step, memory)
        found = code.kernel.alone(step.device, code.read(given))
        more: Mapping[str, Any] = code.filled(given, found, 0)
        return more


def _fixed(rule: Any) -> Any:
    """The fields of a rule that are no scalars: `prepare` may branch on them."""
    return tuple(
        (name, repr(value))
        for name, value in vars(rule).items()
        if name not in rule.hyperparameters
    )


def _code(rule: Any, step: Tensor, memory: Any) -> ScalarCode | None:
    graph = ScalarGraph(step.device)
    steps, memories = _place(1), _place(2)
    try:
        values = {
            name: graph.value(getattr(rule, name), _field(name)) for name in rule.hyperparameters
        }
        clock = graph.value(step, steps).to(torch.float64)
        own = graph.value(memory, memories)
        alike = unchecked(rule, values)
        prepared = dict(traced(graph, lambda: alike.prepare(clock, own)))
        return scalar_code(graph, prepared, DeviceKernel)
    except Unsupported:
        return None


def _place(k: int) -> ScalarSource:
    return ScalarSource(lambda given, i: given[k])


def _field(name: str) -> ScalarSource:
    return ScalarSource(lambda given, i: getattr(given[0], name))
