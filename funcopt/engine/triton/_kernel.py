"""A lowered graph as one launch for all tensors of a block."""

import array
import contextlib
import functools
import hashlib
import importlib
import linecache
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._blocks import Block, Tasks
from .._foreach import no_measures
from .._lowering import LoweredGraph
from .._translation import translate
from ._source import pass_source

WARPS = 4
BLOCK = 1024
"""Entries that a program works on at once: 8 for each thread, so that all accesses are of 128 bit,
in bfloat16, too."""


class TritonKernel:
    """A kernel of Triton, which works on all tensors in one launch."""

    chunk = 16384

    def __init__(self, lowered: LoweredGraph, device: torch.device) -> None:
        self._lowered, self._measures = lowered, len(lowered.measures)
        self._function = function_of(pass_source(translate(lowered)))
        given = [torch.int64, torch.int64, *[torch.float64] * bool(self._measures), torch.int32]
        if not is_interpreted() and device.type != "meta":
            with on(device):  # now, and not in the middle of a step
                self._function.warmup(*given, grid=(1,), **options())

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        device = block.device
        if not tasks.count:
            return no_measures(self._lowered, device)
        out = []
        if self._measures:
            out = [torch.empty(tasks.count, self._measures, dtype=torch.float64, device=device)]
        table = _table(block.pointers(roles), rows, device)
        given = (tasks.on(device), table, *out, block.leaves)
        launch(self._function, tasks.count, given, device)
        return out[0] if out else None


def launch(function: Any, programs: int, given: Sequence[Any], device: torch.device) -> None:
    """Launches a kernel, on the current stream; on "meta", it is only counted by tests."""
    if device.type != "meta":
        with on(device):
            function[(programs,)](*given, **options())


def options() -> dict[str, Any]:
    """How kernels are compiled: products and sums are rounded each, as by operations of torch."""
    return {"BLOCK": BLOCK, "num_warps": WARPS, "enable_fp_fusion": False}


def _table(pointers: "array.array[int]", rows: Sequence[Sequence[Any]], device: torch.device) -> Tensor:
    """Addresses of tensors and of scalars, with the scalars of the host behind them."""
    scalars = [x for row in rows for x in row]
    first = len(pointers) + len(scalars)
    table = torch.empty(first + len(scalars), dtype=torch.int64, device=device)
    base = 0 if device.type == "meta" else table.data_ptr()
    values = array.array("d")
    for x in scalars:
        if isinstance(x, Tensor) and x.device.type != "cpu":
            narrow = x.dtype is torch.float32
            x = x if narrow or x.dtype is torch.float64 else x.double()
            pointers.append((0 if x.is_meta else x.data_ptr()) | narrow)
        else:
            pointers.append(base + 8 * (first + len(values)))
            values.append(float(x))
    pointers.frombytes(values.tobytes())
    upload(pointers, table[: len(pointers)])
    return table


def upload(host: "array.array[int]", to: Tensor) -> None:
    """Copies numbers to a device, without waiting for that."""
    given = torch.frombuffer(host, dtype=torch.int64)
    if to.device.type not in ("cpu", "meta"):
        given = given.pin_memory()
    to.copy_(given, non_blocking=True)


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the tensors say."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any]
    context = torch.get_device_module(device).device(device)
    return context


def is_interpreted() -> bool:
    """Whether kernels are interpreted, on tensors of the CPU."""
    interpret: bool = importlib.import_module("triton").knobs.runtime.interpret
    return interpret


@functools.cache
def function_of(source: str) -> Any:
    """The kernel of a source. Triton keeps on disk what it is compiled to."""
    name = f"<funcopt kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    functions = importlib.import_module("._functions", __package__)
    found = {**vars(functions), "__name__": __name__}
    exec(compile(source, name, "exec"), found)
    return found["kernel"]
