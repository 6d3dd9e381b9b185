"""A step in place by kernels: recorded once, then repeated with other numbers."""

import torch

from .._core.stage import Node
from ..combinators import walk
from ..errors import FuncoptError
from ._guards import GuardFailed, Unsupported
from ._kernels import by_lists
from ._layout import Layout
from ._replay import Recording, repeat
from ._step import MembersCache, StepInputs
from ._structure import is_replayable, same_structure
from ._tracer import Recorder


class Fused:
    """Steps by kernels, for as long as the tensors and the transformation keep their form."""

    def __init__(self, inputs: StepInputs, how: str = "fused") -> None:
        self.how = how
        self.layout = Layout(inputs)
        if not self.layout.cells:
            raise Unsupported(", ".join(self.layout.reasons) or "nothing to do")
        lists = [by_lists(block.device, how) for block in self.layout.blocks]
        self.name = "foreach" if any(lists) else "fused"
        firsts = (cell.first for cell in self.layout.cells)
        self._chosen = sorted([*firsts, *self.layout.alone])
        self._tx = inputs.tx  # the last one that it was asked about
        self._recordings: list[Recording] = []
        self._members = MembersCache(self._chosen)
        steady = all(is_replayable(node) for _, node in walk(inputs.tx))
        self._repeats = steady and not self.layout.alone

    def fits(self, inputs: StepInputs) -> bool:
        if inputs.metadata_key is not self.layout.form:
            return False
        if inputs.tx is not self._tx:
            if not same_structure(inputs.tx, self._tx):
                return False
            self._tx = inputs.tx
        return True

    def step(self, inputs: StepInputs) -> Node:
        """Makes the step. `fits` has been asked before.

        Raises:
            Unsupported: If something cannot be recorded. Nothing has been changed then.
        """
        try:
            stand_ins = self.layout.load(inputs)
            node = self._repeated(inputs) or self._recorded(inputs)
            torch.autograd.graph.increment_version(self.layout.written)
            for x, stand_in in stand_ins:
                x.copy_(stand_in)
            return node
        finally:
            self.layout.release()

    def _open(self, inputs: StepInputs) -> Node:
        members, used = self._members(inputs)
        return inputs.tx.open([inputs.buckets[k] for k in used], members)

    def _repeated(self, inputs: StepInputs) -> Node | None:
        for recording in self._recordings if self._repeats else ():
            node = self._open(inputs)
            try:
                repeat(recording, node)
            except GuardFailed:
                continue
            return node
        return None

    def _recorded(self, inputs: StepInputs) -> Node:
        node = self._open(inputs)
        recorder = Recorder(self.layout, inputs, node, self._chosen, self.how)
        gs, own, ps = recorder.arguments()
        try:
            us, slots = inputs.tx.run(gs, own, ps, node, recorder.reduce)
        except (FuncoptError, Unsupported):
            raise
        except Exception as error:  # of what is no tensor to compute with; else it comes again
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        recording = recorder.finish(us, slots)
        if self._repeats:
            self._recordings = [recording, *self._recordings[:7]]
        return node
