"""Which way steps are made: by kernels, or operation by operation."""

import logging
import os
from typing import Any, Literal, get_args

from .._pass import Node
from ..errors import HyperparameterError
from ._fused import Fused
from ._kernels import has_compiler
from ._numbers import Unsupported
from ._torch_kernels import TorchKernel
from ._work import Work, eagerly

log = logging.getLogger("funcopt")

How = Literal["auto", "eager", "torch", "fused"]

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
        self._fused: Fused | None = None
        self._torch: TorchKernel | None = None
        self._asked: tuple[Any, bool] = (None, False)  # whether it pays, for tensors of this form
        self._tried: Any = None
        self._given_up: Any = None
        self._reasons: set[str] = set()

    def step(self, work: Work) -> Node:
        """Makes one step."""
        fused = self._kernels(work)
        if fused is not None:
            try:
                node = fused.step(work)
            except Unsupported as reason:
                self._give_up(work, reason)
            else:
                self.name = "fused"
                return node
        by_torch = None if self.how == "eager" else self._by_torch(work)
        self.name = "eager" if by_torch is None else "torch"
        return eagerly(work) if by_torch is None else by_torch

    def _by_torch(self, work: Work) -> Node | None:
        """The step by a kernel of torch, if there is one."""
        if self._tried is not work.form:
            self._tried = work.form
            try:
                self._torch = TorchKernel(work)
            except Unsupported:
                self._torch = None
        try:
            return None if self._torch is None else self._torch.step(work)
        except Unsupported:  # a number is another now
            return None

    def _kernels(self, work: Work) -> Fused | None:
        if self.how in ("eager", "torch") or (self.how == "auto" and not self._pays(work)):
            return None
        if work.evaluate is not None:
            self._give_up(work, Unsupported("the loss is evaluated within the step"))
            return None
        if self._fused is not None and self._fused.fits(work):
            return self._fused
        self._fused = None
        if self._given_up is work.form:
            return None
        try:
            self._fused = Fused(work)
        except Unsupported as reason:
            self._give_up(work, reason)
        return self._fused

    def _pays(self, work: Work) -> bool:
        if self._asked[0] is not work.form:
            large = len(work.ps) >= TENSORS or sum(p.numel() for p in work.ps) >= ENTRIES
            self._asked = (work.form, large and has_compiler())
        return self._asked[1]

    def _give_up(self, work: Work, reason: Unsupported) -> None:
        """Makes all further steps of these tensors operation by operation."""
        self._fused, self._given_up = None, work.form
        if str(reason) not in self._reasons:
            self._reasons.add(str(reason))
            log.info("%s runs operation by operation: %s", type(work.tx).__name__, reason)
