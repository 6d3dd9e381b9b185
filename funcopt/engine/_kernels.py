"""Kernels: lowered graphs that are ready to run over the tensors of a block."""

import array
import ctypes
import functools
import importlib.util
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .._numerics.scalars import double
from . import _bytecode, _caches, _machine, _native, _threads, triton
from ._blocks import CHUNK, REDUCTION_CHUNK, Block, Roles, Tasks, as_vector
from ._foreach import ForeachKernel, no_measures
from ._graph import Graph
from ._guards import Unsupported, constant_source
from ._lowering import LoweredGraph, lower_graph
from ._measured import Pass
from ._translation import translate

log = logging.getLogger("funcopt")


class Kernel(Protocol):
    """A lowered graph that is ready to run."""

    chunk: int  # the most entries of a tensor that a task works on

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        """Runs it over the tasks of a block.

        Its inputs are the columns of these roles; each cell has a row of scalars. Returns the
        measures of each task, in float64, if it has any.
        """


class DrivenKernel:
    """A driver in machine code, which works on all tensors in one call."""

    chunk: int
    _drive: Callable[..., None]

    def __init__(self, lowered: LoweredGraph) -> None:
        self._measures = len(lowered.measures)
        self._typecode = "f" if lowered.compute_dtype is torch.float32 else "d"

    def __call__(
        self,
        block: Block,
        tasks: Tasks,
        roles: tuple[int, ...],
        rows: Sequence[Sequence[Any]],
        threads: int | None = None,
        drive: Any = None,
    ) -> Tensor | None:
        """The same; on so many threads and by such a driver, if it is a measurement."""
        packed = self.packed(x for row in rows for x in row)
        out, pointers = self.table_of(tasks), block.pointers(roles)
        (drive or self._drive_for(tasks))(
            tasks.count,
            tasks.table_address,
            pointers.buffer_info()[0],
            block.leaves,
            packed.buffer_info()[0],
            tasks.rows_address,
            None if out is None else out.data_ptr(),
            threads or self.threads_for(tasks),
        )
        return out

    def packed(self, scalars: Iterable[Any]) -> "array.array[float]":
        """Scalars as machine code reads them."""
        return array.array(self._typecode, map(float, scalars))

    def table_of(self, tasks: Tasks) -> Tensor | None:
        """Where the measures of each task are written, if there are any."""
        if not self._measures:
            return None
        return torch.empty(tasks.count, self._measures, dtype=torch.float64, device="cpu")

    def threads_for(self, tasks: Tasks) -> int:
        """How many threads the tasks are worth."""
        return _threads.threads_for(tasks.entries, probe_of_threads)

    def _drive_for(self, tasks: Tasks) -> Any:
        """The driver for these tasks."""
        return self._drive

    def address(self, tasks: Tasks) -> tuple[int, Sequence[int]]:
        """That of the machine code for them, and of the program that it runs, if it runs one."""
        drive: Any = self._drive_for(tasks)
        program: Sequence[int] = ()
        if isinstance(drive, functools.partial):
            drive, program = drive.func, drive.args
        return ctypes.cast(drive, ctypes.c_void_p).value or 0, program


class BytecodeKernel(DrivenKernel):
    """Instructions for a machine: nothing has to be compiled."""

    chunk = CHUNK

    def __init__(self, lowered: LoweredGraph) -> None:
        super().__init__(lowered)
        listing = translate(lowered)
        program = _bytecode.assemble(listing)
        through_memory = program.through_memory(listing.only_written())
        self._programs = program, through_memory  # which have to be kept
        driver = _machine.driver(lowered.compute_dtype)
        self.drives = [
            functools.partial(driver, *(x.buffer_info()[0] for x in one)) for one in self._programs
        ]
        """From caches, and through memory."""

        self._bytes = sum(x.dtype.itemsize for x in lowered.inputs)  # of an entry, at most

    def _drive_for(self, tasks: Tasks) -> Any:
        held = _caches.hold(tasks.entries * self._bytes, _probe_of_caches)
        return self.drives[_caches.FROM_CACHES if held else _caches.THROUGH_MEMORY]


class _Probe:
    """A pass of SGD with momentum, over one tensor."""

    bytes_of_entry = 12

    def __init__(self) -> None:
        graph = Graph(torch.float32, torch.device("cpu"))
        p, g, m = (graph.input(role, torch.float32) for role in range(3))
        momentum = graph.scalar(constant_source(0.9))
        mean: Any = torch.lerp(g, m, momentum)
        moved: Any = p - momentum * mean
        self.kernel = BytecodeKernel(lower_graph(graph, {0: moved, 2: mean}, []).lowered)
        self._block: Block | None = None  # that of the last length

    def run(self, entries: int, threads: int, way: int) -> None:
        """Makes it."""
        block = self._block
        if block is None or block.lengths != [entries]:
            self._block = None  # before there is another
            columns = [[torch.zeros(entries, device="cpu")] for _ in range(3)]
            block = self._block = Block([0], columns, Roles(1, False))
        tasks = block.tasks(((0,),), CHUNK)
        self.kernel(block, tasks, (0, 1, 2), [[0.9]], threads, self.kernel.drives[way])


def probe_of_threads() -> Pass:
    """A pass over entries, on some threads."""
    probe = _Probe()
    return lambda entries, threads: probe.run(entries, threads, _caches.FROM_CACHES)


def _probe_of_caches() -> Pass:
    """A pass over bytes, in one of the ways."""
    probe, most = _Probe(), torch.get_num_threads()
    return lambda size, way: probe.run(size // probe.bytes_of_entry, most, way)


class NativeKernel(DrivenKernel):
    """Machine code of its own."""

    def __init__(self, lowered: LoweredGraph) -> None:
        super().__init__(lowered)
        self.chunk = REDUCTION_CHUNK if lowered.measures else CHUNK
        self._drive = _native.load_or_compile(translate(lowered))


class LoopKernel:
    """A function of vectors, called in a loop over the tasks."""

    def __init__(
        self, lowered: LoweredGraph, function: Callable[..., tuple[Tensor, ...]], chunk: int
    ) -> None:
        self._function, self._lowered, self.chunk = function, lowered, chunk

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        device = block.columns[0][0].device
        packed = [_packed(row, self._lowered.compute_dtype, device) for row in rows]
        vectors = [[as_vector(x) for x in block.columns[role]] for role in roles]
        out = []
        for leaf, start, length, row in tasks:
            parts = [column[leaf][start : start + length] for column in vectors]
            out.append(self._function(*parts, packed[row]))
        if not out:
            return no_measures(self._lowered, device)
        return double(torch.stack([torch.stack(one) for one in out])) if out[0] else None


def _packed(row: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The scalars of a row as a vector on the device; those that are there stay there."""
    if any(isinstance(x, Tensor) and x.device.type != "cpu" for x in row):
        return torch.stack([torch.as_tensor(x, dtype=dtype, device=device) for x in row])
    return torch.tensor([float(x) for x in row], dtype=dtype, device=device)


_building = threading.RLock()
"""Held while a graph is compiled: warnings are silenced meanwhile, and none is compiled twice."""

_cache: dict[tuple[tuple[str, ...], str, str], Kernel] = {}
compiles = 0
"""How many graphs have been compiled in this process: tests count that none is twice."""


_interpreted_chunk: int | None = None


@contextmanager
def interpret_in_chunks(entries: int) -> Iterator[None]:
    """Interprets lowered graphs, on so many entries at once: no more than a kernel may see."""
    global _interpreted_chunk
    before, _interpreted_chunk = _interpreted_chunk, entries
    try:
        yield
    finally:
        _interpreted_chunk = before


ON_CPU = {
    "auto": ("bytecode",),
    "fused": ("bytecode", "native", "compiled"),
    "compiled": ("native", "compiled"),
}
"""The kinds of kernels to try on a CPU, by option: only those of "auto" have nothing to compile."""


ON_DEVICE = {"auto": ("triton",), "fused": ("triton", "compiled"), "compiled": ("compiled",)}
"""The same on other devices. To call a compiled function for each tensor takes the host longer than
functions of lists, which are there for "auto", too."""


def kernel_for(lowered: LoweredGraph, device: torch.device, option: str = "fused") -> Kernel:
    """The kernel of a lowered graph, of the kinds for this device, or torch's functions of lists.

    Raises:
        Unsupported: If there is none.
    """
    if _interpreted_chunk is not None:
        return _interpreted(lowered, _interpreted_chunk)
    if option == "foreach":
        return ForeachKernel(lowered)
    chosen = os.environ.get("FUNCOPT_KERNELS")
    kinds = (ON_CPU if device.type == "cpu" else ON_DEVICE)[option]
    if chosen in ("triton", None) or device.type == "cpu":
        kinds = kinds if chosen is None else (chosen,)
    key = (kinds, device.type, lowered.text())
    with _building:
        if key not in _cache:
            _cache[key] = _build(lowered, device, kinds, option == "auto")
        return _cache[key]


def _interpreted(lowered: LoweredGraph, chunk: int) -> Kernel:
    chunk = sys.maxsize if lowered.sees_places else chunk
    return LoopKernel(lowered, lambda *given: lowered(given[:-1], given[-1]), chunk)


def _build(
    lowered: LoweredGraph, device: torch.device, kinds: Sequence[str], or_lists: bool
) -> Kernel:
    in_parts = device.type == "cpu" and not lowered.sees_places
    chunk = CHUNK if in_parts else sys.maxsize
    builders: dict[str, Callable[[], Kernel]] = {
        "interpreted": lambda: _interpreted(lowered, chunk),
        "bytecode": lambda: BytecodeKernel(lowered),
        "native": lambda: NativeKernel(lowered),
        "triton": lambda: _triton(lowered, device),
        "compiled": lambda: LoopKernel(lowered, _compiled(lowered, device), chunk),
    }
    what = f"a pass of {len(lowered.calls)} operations on {lowered.compute_dtype}"
    for kind in kinds:
        try:
            # Dispatch modes around the step have nothing to do with how it is compiled.
            with warnings.catch_warnings(action="ignore"), _disable_current_modes():
                if kind in COMPILED:
                    check_compiler(device)
                    return _announced(what, kind, lowered, builders[kind])
                return builders[kind]()
        except Unsupported as reason:
            log.info("%s has no kernel of %s: %s", what, kind, reason)
        except Exception as error:  # whatever a compiler may find
            log.warning("%s could not be compiled (%s): %s", what, kind, _first_line(error))
    if or_lists and device.type != "cpu":
        return ForeachKernel(lowered)
    raise Unsupported(f"{what}, for which there is no kernel")


def _triton(lowered: LoweredGraph, device: torch.device) -> Kernel:
    if not triton.is_available(device):
        raise Unsupported(f"Triton is not installed, or not for {device.type}")
    return triton.TritonKernel(lowered, device)


COMPILED = ("native", "compiled")


def _announced(
    what: str, kind: str, lowered: LoweredGraph, builder: Callable[[], Kernel]
) -> Kernel:
    """A kernel that is compiled, or loaded from the cache; the log says how long it took."""
    global compiles
    compiles += 1
    begin, cached = time.perf_counter(), kind == "native" and _native.is_cached(translate(lowered))
    kernel = builder()
    seconds = time.perf_counter() - begin
    log.info("%s %s in %.2f s (%s)", "loaded" if cached else "compiled", what, seconds, kind)
    return kernel


def check_compiler(device: torch.device) -> None:
    """Refuses a device for which nothing can be compiled here.

    Raises:
        Unsupported: If its compiler is missing.
    """
    if device.type == "cpu" and not has_compiler():
        raise Unsupported("no C++ compiler was found")
    if device.type in ("cuda", "xpu") and importlib.util.find_spec("triton") is None:
        raise Unsupported(f"Triton, which compiles kernels for {device.type}, is not installed")


def has_compiler() -> bool:
    """Whether there is a C++ compiler, where Inductor would look for one."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    return any(map(shutil.which, names))


def has_machine() -> bool:
    """Whether bytecode can be run: its machine has been compiled, or can be."""
    return _machine.is_loaded() or has_compiler() or _machine.is_installed()


EXAMPLE_LENGTH = 1009
"""The length of the vectors that a graph is compiled for; it is not part of the result."""


def _compiled(lowered: LoweredGraph, device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    if lowered.sees_places:
        raise Unsupported("codes of blocks, or random bits")
    function = torch.compile(lowered.module(), dynamic=True, fullgraph=True)
    tensors = [torch.ones(EXAMPLE_LENGTH, dtype=x.dtype, device=device) for x in lowered.inputs]
    row = torch.ones(lowered.num_scalars, dtype=lowered.compute_dtype, device=device)
    function(*tensors, row)  # now, and not in the middle of a step
    return function


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
