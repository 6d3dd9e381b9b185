"""The backend of kernels: a step is traced once, then replayed with other scalars."""

import torch

from .._core.stage import Node
from ..combinators import walk
from ..errors import FuncoptError
from ._block_layout import BlockLayout
from ._guards import GuardFailed, Unsupported
from ._kernels import uses_foreach
from ._replay import CompiledStep, replay
from ._step import MembersCache, StepInputs
from ._structure import is_replayable, same_structure
from ._tracer import Tracer

MAX_COMPILED = 8
"""The most compiled steps that are kept, for guards that fail in turns."""


class TracedBackend:
    """Makes steps by kernels, for one layout of tensors and one structure of transformation.

    Raises:
        Unsupported: If no tensor can be worked on by kernels.
    """

    def __init__(self, inputs: StepInputs, option: str = "fused") -> None:
        self._option = option
        self._layout = BlockLayout(inputs)
        if not self._layout.cells:
            raise Unsupported(", ".join(self._layout.reasons) or "nothing to do")
        foreach = any(uses_foreach(block.device, option) for block in self._layout.blocks)
        self.name = "foreach" if foreach else "fused"
        representatives = (cell.representative for cell in self._layout.cells)
        self._indices = sorted([*representatives, *self._layout.eager])
        self._tx = inputs.tx  # the last one whose structure was compared
        self._compiled: list[CompiledStep] = []  # the latest first
        self._members = MembersCache(self._indices)
        replayable = all(is_replayable(node) for _, node in walk(inputs.tx))
        self.replays = replayable and not self._layout.eager
        """Whether a step is made by the kernels of an earlier one, and not traced again."""

    def holds(self, inputs: StepInputs) -> bool:
        """Whether it can make this step: metadata and structure are those of the first one."""
        if inputs.metadata_key is not self._layout.metadata_key:
            return False
        if inputs.tx is not self._tx:
            if not same_structure(inputs.tx, self._tx):
                return False
            self._tx = inputs.tx
        return True

    def step(self, inputs: StepInputs) -> Node:
        """Makes a step for which `holds` is true.

        Raises:
            Unsupported: If something cannot be traced. Nothing has been changed then.
        """
        try:
            staged = self._layout.load(inputs)
            node = self._replay(inputs) or self._trace(inputs)
            torch.autograd.graph.increment_version(self._layout.written)
            for x, copy in staged:
                x.copy_(copy)
            return node
        finally:
            self._layout.release()
            if inputs.out_of_place:
                self._members.release()

    def _open(self, inputs: StepInputs) -> Node:
        inputs.ranks.again()
        members, used = self._members(inputs)
        return inputs.tx.open([inputs.buckets[k] for k in used], members)

    def _replay(self, inputs: StepInputs) -> Node | None:
        """Replays a compiled step whose guards hold."""
        for compiled in self._compiled if self.replays else ():
            node = self._open(inputs)
            try:
                replay(compiled, node)
            except GuardFailed:
                continue
            return node
        return None

    def _trace(self, inputs: StepInputs) -> Node:
        """Traces the step, and keeps what it was compiled to."""
        node = self._open(inputs)
        tracer = Tracer(self._layout, inputs, node, self._indices, self._option)
        gs, own, ps = tracer.arguments()
        try:
            us, slots = inputs.tx.run(gs, own, ps, node, tracer.reduce)
        except (FuncoptError, Unsupported):
            raise
        except Exception as error:  # of a symbol that is no real tensor; a real error comes again
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        compiled = tracer.finish(us, slots)
        if self.replays:
            self._compiled = [compiled, *self._compiled[: MAX_COMPILED - 1]]
        return node
