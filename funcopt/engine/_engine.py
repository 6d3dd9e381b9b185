"""The engine: chooses the backend that makes a step."""

import logging
from collections.abc import Sequence
from typing import Any

from .._core.stage import Bucket, Node
from .._numerics.autocast import forget_casts
from ._guards import Unsupported
from ._kernels import has_machine
from ._memory_numbers import MemoryNumbers
from ._options import EngineOption, chosen, updates_made_by
from ._ready import ReadyKernels
from ._step import StepInputs, eager_step
from ._torch_backend import TorchBackend
from ._traced_backend import TracedBackend

log = logging.getLogger("funcopt")


class Engine:
    """Makes steps in place. What it has found for the first is used for those like it.

    Raises:
        HyperparameterError: If there is no such engine.
    """

    def __init__(self, option: str = "auto", who: str = "Optimizer") -> None:
        self.option: EngineOption = chosen(who, option)
        self.name = "eager"  # which one has made the last step
        # Each of these holds for tensors with the metadata of this key.
        self._backends: tuple[Any, tuple[str, ...]] = (None, ())
        self._torch_key: Any = None
        self._torch: TorchBackend | None = None
        self._traced: TracedBackend | None = None
        self._untraceable_key: Any = None
        self._said: set[str] = set()  # what is in the log already

    def step(self, inputs: StepInputs) -> Node:
        """Makes one step."""
        inputs.ranks.begin()
        try:
            node = self._step(inputs)
        finally:
            inputs.ranks.end()
        forget_casts()
        return node

    def _step(self, inputs: StepInputs) -> Node:
        if self._backends[0] is not inputs.metadata_key:
            self._backends = (inputs.metadata_key, self._choose_backends(inputs))
        for backend in self._backends[1]:
            node = self._by_torch(inputs) if backend == "torch" else self._by_tracing(inputs)
            if node is not None:
                return node
        self.name = "eager"
        with updates_made_by(self.option):
            return eager_step(inputs)

    def ready(
        self, root: Node, buckets: Sequence[Bucket], memory: MemoryNumbers | None
    ) -> ReadyKernels | None:
        """The last step, ready for others that are like it; `None` if it is not made so."""
        if self._traced is None or self.name != self._traced.name:
            return None
        try:
            return self._traced.ready(root, buckets, memory)
        except Unsupported:
            return None

    def _choose_backends(self, inputs: StepInputs) -> tuple[str, ...]:
        """The backends to try, in this order, before the eager step."""
        if self.option != "auto":
            return {"eager": (), "torch": ("torch",)}.get(self.option, ("traced", "torch"))
        if any(p.device.type != "cpu" for p in inputs.ps):
            return ("torch", "traced")  # nothing has been measured there
        if not has_machine():
            self._say(
                "no C++ compiler was found, so torch makes the steps of %s, by a kernel of its own "
                "or operation by operation: install one, or set CXX",
                _name(inputs),
            )
            return ("torch",)
        return ("traced", "torch")

    def _by_torch(self, inputs: StepInputs) -> Node | None:
        """The step by a kernel of torch, if there is one."""
        if self._torch_key is not inputs.metadata_key:
            self._torch_key = inputs.metadata_key
            try:
                self._torch = TorchBackend(inputs, alone=self.option == "auto")
            except Unsupported:
                self._torch = None
        try:
            node = None if self._torch is None else self._torch.step(inputs)
        except Unsupported:  # for the hyperparameters of this step
            return None
        if node is not None:
            self.name = "torch"
        return node

    def _by_tracing(self, inputs: StepInputs) -> Node | None:
        """The step by kernels that are traced and compiled, if it can be."""
        if inputs.evaluate is not None:
            self._give_up(inputs, Unsupported("the loss is evaluated within the step"))
            return None
        if inputs.tensor_extra:  # in this step: others may be without
            self._say("%s runs operation by operation where it is given trees", _name(inputs))
            return None
        if self._traced is not None and not self._traced.holds(inputs):
            self._traced = None
        if self._traced is None and self._untraceable_key is inputs.metadata_key:
            return None
        try:
            if self._traced is None:
                self._traced = TracedBackend(inputs, self.option)
            node = self._traced.step(inputs)
        except Unsupported as reason:
            self._give_up(inputs, reason)
            return None
        self.name = self._traced.name
        return node

    def _give_up(self, inputs: StepInputs, reason: Unsupported) -> None:
        """Makes all further steps of tensors like these operation by operation."""
        self._traced, self._untraceable_key = None, inputs.metadata_key
        self._say("%s runs operation by operation: %s", _name(inputs), reason)

    def _say(self, *line: Any) -> None:
        """Writes a line to the log, once."""
        if (said := str(line)) not in self._said:
            self._said.add(said)
            log.info(*line)


def _name(inputs: StepInputs) -> str:
    return type(inputs.tx).__name__
