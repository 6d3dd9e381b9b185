"""Which way steps are made: by kernels, or operation by operation."""

import logging
import os
from typing import Any, Literal, get_args

from .._core.stage import Node
from ..errors import HyperparameterError
from ._fused import Fused
from ._guards import Unsupported
from ._kernels import has_compiler
from ._step import StepInputs, eager_step
from ._torch_kernels import TorchKernel

log = logging.getLogger("funcopt")

How = Literal["auto", "eager", "torch", "foreach", "fused"]

ENTRIES = 2**16
TENSORS = 100
"""From so many entries or tensors on, it pays to compile: a job of that size is no example."""


class Engine:
    """Makes steps in place. What it has found out of the first is used for those like it.

    Raises:
        HyperparameterError: If there is no such engine.
    """

    def __init__(self, how: str = "auto") -> None:
        if how not in get_args(How):
            raise HyperparameterError(
                f"`engine` must be one of {', '.join(map(repr, get_args(How)))}, got {how!r}."
            )
        self.how = os.environ.get("FUNCOPT_ENGINE", how) if how == "auto" else how
        self.name = "eager"  # which one has made the last step
        self._chosen: tuple[Any, tuple[str, ...]] = (None, ())  # for tensors of this form
        self._fused: Fused | None = None
        self._torch: TorchKernel | None = None
        self._tried: Any = None
        self._given_up: Any = None
        self._reasons: set[str] = set()

    def step(self, inputs: StepInputs) -> Node:
        """Makes one step."""
        if self._chosen[0] is not inputs.metadata_key:
            self._chosen = (inputs.metadata_key, self._ways(inputs))
        for way in self._chosen[1]:
            node = self._by_torch(inputs) if way == "torch" else self._by_kernels(inputs)
            if node is not None:
                return node
        self.name = "eager"
        return eager_step(inputs)

    def _ways(self, inputs: StepInputs) -> tuple[str, ...]:
        """What is tried, in this order, before the operations one by one."""
        if self.how != "auto":
            return {"eager": (), "torch": ("torch",)}.get(self.how, ("kernels", "torch"))
        if any(p.device.type != "cpu" for p in inputs.ps):
            return (
                "torch",
                "kernels",
            )  # of torch's kernels nothing is known there but that they are fast
        large = len(inputs.ps) >= TENSORS or sum(p.numel() for p in inputs.ps) >= ENTRIES
        return ("kernels", "torch") if large and has_compiler() else ("torch",)

    def _by_torch(self, inputs: StepInputs) -> Node | None:
        """The step by a kernel of torch, if there is one."""
        if self._tried is not inputs.metadata_key:
            self._tried = inputs.metadata_key
            try:
                self._torch = TorchKernel(inputs)
            except Unsupported:
                self._torch = None
        try:
            node = None if self._torch is None else self._torch.step(inputs)
        except Unsupported:  # a number is another now
            return None
        if node is not None:
            self.name = "torch"
        return node

    def _by_kernels(self, inputs: StepInputs) -> Node | None:
        """The step by kernels of ours, unless they cannot make it."""
        if inputs.evaluate is not None:
            self._give_up(inputs, Unsupported("the loss is evaluated within the step"))
            return None
        if self._fused is not None and not self._fused.fits(inputs):
            self._fused = None
        if self._fused is None and self._given_up is inputs.metadata_key:
            return None
        try:
            if self._fused is None:
                self._fused = Fused(inputs, self.how)
            node = self._fused.step(inputs)
        except Unsupported as reason:
            self._give_up(inputs, reason)
            return None
        self.name = self._fused.name
        return node

    def _give_up(self, inputs: StepInputs, reason: Unsupported) -> None:
        """Makes all further steps of these tensors operation by operation."""
        self._fused, self._given_up = None, inputs.metadata_key
        if str(reason) not in self._reasons:
            self._reasons.add(str(reason))
            log.info("%s runs operation by operation: %s", type(inputs.tx).__name__, reason)
