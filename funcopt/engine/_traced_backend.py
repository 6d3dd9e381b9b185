"""The backend of kernels: a step is traced once, then replayed with other scalars."""

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._core import precision
from .._core.preparing import Prepare, prepare, prepared_by
from .._core.reduction import Reduce
from .._core.stage import Bucket, Node
from .._core.tensor_rule import PerTensor
from ..combinators import walk
from ..errors import FuncoptError
from . import triton
from ._block_layout import BlockLayout
from ._foreach import ForeachKernel
from ._guards import GuardFailed, Unsupported
from ._memory_numbers import MemoryNumbers
from ._ready import ReadyKernels
from ._replay import STAND_IN, CompiledStep, Replay
from ._step import MembersCache, StepInputs
from ._structure import is_replayable, makes_decisions, same_structure
from ._tracer import Tracer

log = logging.getLogger("funcopt")

MIN_ENTRIES = 2**16
MIN_TENSORS = 100
"""From so many on, a step may wait for a compiler, where nothing else makes it by kernels."""


def are_large(tensors: Sequence[Tensor]) -> bool:
    """Whether compilation pays for a step of these."""
    return len(tensors) >= MIN_TENSORS or sum(x.numel() for x in tensors) >= MIN_ENTRIES


MAX_COMPILED = 8
"""The most compiled steps that are kept, for guards that fail in turns."""


class TracedBackend:
    """Makes steps by kernels, for one layout of tensors and one structure of transformation.

    Raises:
        Unsupported: If no tensor can be worked on by kernels.
    """

    def __init__(self, inputs: StepInputs, option: str = "fused") -> None:
        on_cpu = all(p.device.type == "cpu" for p in inputs.ps)
        if option == "auto" and on_cpu and are_large(inputs.ps):
            option = "fused"
        self._option = option
        self._layout = BlockLayout(inputs)
        if not self._layout.cells:
            raise Unsupported(", ".join(self._layout.reasons) or "nothing to do")
        self.name: str = option  # of "auto", when kernels are there
        representatives = (cell.representative for cell in self._layout.cells)
        self._indices = sorted([*representatives, *self._layout.eager])
        self._tx = inputs.tx  # the last one whose structure was compared
        self._compiled: list[CompiledStep] = []  # the latest first
        self._members = MembersCache(self._indices)
        self._on_device = any(map(is_device, (block.device for block in self._layout.blocks)))
        by_kernels = self._on_device and option != "foreach"
        self._prepared: Prepare = triton.Prepared() if by_kernels else prepare
        devices = {block.device for block in self._layout.blocks}
        self._devices = [x for x in devices if by_kernels and triton.is_available(x)]
        slots = [inputs.slots[i] for i in self._indices]
        self._slots = [precision.map_slots(lambda _: STAND_IN, own) for own in slots]
        stages = [node for _, node in walk(inputs.tx)]
        self._decides = any(map(makes_decisions, stages))
        for node in stages:
            if not (is_replayable(node) or makes_decisions(node)):
                # Else it would depend on what was traced before, which engine makes a step.
                who = type(node).__name__
                raise Unsupported(f"`{who}` declares neither `replayable` nor `decides`")
        self._replayed: CompiledStep | None = None  # what has made the last step
        self.replays = not self._layout.eager
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
            if self._layout.written:
                torch.autograd.graph.increment_version(self._layout.written)
            for x, copy in staged:
                x.copy_(copy)
            return node
        finally:
            self._layout.release()
            if inputs.out_of_place:
                self._members.release()

    def ready(
        self, root: Node, buckets: Sequence[Bucket], memory: MemoryNumbers | None = None
    ) -> ReadyKernels:
        """The last step, whose node this is, ready for others that are like it.

        Args:
            root: The node.
            buckets: Those of the step.
            memory: All that buckets have in memory, if these are numbers, and the same in all.

        Raises:
            Unsupported: If it was traced, or is more than kernels that machine code can call.
        """
        if self._replayed is None or self._on_device:
            raise Unsupported("a step that was not replayed on a CPU")
        if not self._layout.is_simple:
            raise Unsupported("tensors that are prepared in every step")
        gs: list[Any] = [STAND_IN] * len(self._indices)
        slots = self._slots

        def follow(tx: PerTensor, root: Node, reduce: Reduce) -> None:
            tx.run(gs, slots, gs, root, reduce)

        return ReadyKernels(
            self._compiled if self._decides else [self._replayed],
            self._layout.written,
            self._layout.place_of,
            follow,
            self._decides,
            self._members.latest(gs),
            root,
            buckets,
            memory,
        )

    def _open(self, inputs: StepInputs) -> Node:
        inputs.ranks.again()
        members, used = self._members(inputs)
        buckets = [inputs.buckets[k] for k in used]
        if not self._on_device:
            return inputs.tx.open(buckets, members)
        with prepared_by(self._prepared):
            return inputs.tx.open(buckets, members)

    def _replay(self, inputs: StepInputs) -> Node | None:
        """Replays a compiled step whose guards hold, and which decides as this one does."""
        self._replayed = None
        if not (self.replays and self._compiled):
            return None
        try:
            with self._together(inputs, True):
                node = self._open(inputs)
                replay = Replay(self._compiled, node)
                if self._decides:
                    gs: list[Any] = [STAND_IN] * len(self._indices)
                    replay.follow(lambda reduce: inputs.tx.run(gs, self._slots, gs, node, reduce))
                else:
                    replay.run()
        except GuardFailed:
            return None
        except Unsupported as reason:  # it does more than arithmetic with the stand-ins
            log.info("%s is traced in every step: %s", type(inputs.tx).__name__, reason)
            self.replays = False
            return None
        self._replayed = replay.chosen
        return node

    def _together(
        self, inputs: StepInputs, replays: bool
    ) -> contextlib.AbstractContextManager[None]:
        """How launches wait for one another, in a replay or a trace."""
        if self._devices and any(map(_has_scalars_on_device, inputs.buckets)):
            return triton.scalars_together(self._devices)
        in_order = self._on_device and replays and not self._decides
        return triton.together() if in_order else contextlib.nullcontext()

    def _trace(self, inputs: StepInputs) -> Node:
        """Traces the step, and keeps what it was compiled to."""
        self._layout.drop_scratch()  # of a replay that has failed
        with self._together(inputs, False):
            node, compiled = self._traced(inputs)
        if self._option == "auto":
            kernels = [one.kernel for one in compiled.all_launches()]
            by_lists = any(isinstance(kernel, ForeachKernel) for kernel in kernels)
            self.name = "foreach" if by_lists else "fused"
        if self.replays:
            self._compiled = [compiled, *self._compiled[: MAX_COMPILED - 1]]
        return node

    def _traced(self, inputs: StepInputs) -> tuple[Node, CompiledStep]:
        node = self._open(inputs)
        tracer = Tracer(self._layout, inputs, node, self._indices, self._option)
        gs, own, ps = tracer.arguments()
        try:
            with torch.no_grad():  # of symbols, no derivatives are taken
                us, slots = inputs.tx.run(gs, own, ps, node, tracer.reduce)
        except (FuncoptError, Unsupported):
            raise
        except Exception as error:  # of a symbol that is no real tensor; a real error comes again
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        return node, tracer.finish(us, slots)


def _has_scalars_on_device(bucket: Bucket) -> bool:
    given = (bucket.step, bucket.count, *precision.entries(bucket.memory))
    return any(isinstance(x, Tensor) and is_device(x.device) for x in given)


def is_device(device: torch.device) -> bool:
    """Whether values there are not looked at: that would be to wait."""
    return device.type != "cpu" or triton.is_available(device)  # the interpreter, in tests
