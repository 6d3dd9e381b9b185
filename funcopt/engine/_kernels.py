"""Programs that are ready to run over many tensors."""

import array
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .._numerics.scalars import double
from . import _native
from ._blocks import CHUNK, MEASURED, Block, Tasks, flat
from ._foreach import Foreach
from ._guards import Unsupported
from ._program import Program

log = logging.getLogger("funcopt")

SERIAL = 32768
"""Entries up to which one thread is faster than several."""


class Kernel(Protocol):
    """A program that is ready to run."""

    chunk: int  # how much of a tensor a task works on

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        """Runs it over the tasks of a block.

        Its inputs are the columns of these roles, and each cell has a row of numbers. Returns what
        each task has measured, in float64, if something is.
        """


class Native:
    """Machine code: one call for all tensors."""

    def __init__(self, program: Program) -> None:
        self.chunk = MEASURED if program.measures else CHUNK
        self._drive = _native.compiled(program)
        self._measures = len(program.measures)
        self._letter = "f" if program.wide is torch.float32 else "d"

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        packed = array.array(self._letter, [float(x) for row in rows for x in row])
        out = None
        if self._measures:
            out = torch.empty(tasks.count, self._measures, dtype=torch.float64, device="cpu")
        pointers = block.pointers(roles)
        self._drive(
            tasks.count,
            tasks.table_at,
            pointers.buffer_info()[0],
            block.leaves,
            packed.buffer_info()[0],
            tasks.rows_at,
            None if out is None else out.data_ptr(),
            1 if tasks.entries <= SERIAL else torch.get_num_threads(),
        )
        return out


class Leafwise:
    """A function of vectors, called for one piece after another."""

    def __init__(
        self, program: Program, function: Callable[..., tuple[Tensor, ...]], chunk: int
    ) -> None:
        self._function, self._wide, self.chunk = function, program.wide, chunk

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        device = block.columns[0][0].device
        numbers = [_row(row, self._wide, device) for row in rows]
        vectors = [[flat(x) for x in block.columns[role]] for role in roles]
        out = []
        for leaf, start, length, row in tasks:
            parts = [column[leaf][start : start + length] for column in vectors]
            out.append(self._function(*parts, numbers[row]))
        if not out or not out[0]:
            return None
        return double(torch.stack([torch.stack(one) for one in out]))


def _row(numbers: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers of a cell as a vector on the device; nothing that is there comes to the host."""
    if any(isinstance(x, Tensor) and x.device.type != "cpu" for x in numbers):
        return torch.stack([torch.as_tensor(x, dtype=dtype, device=device) for x in numbers])
    return torch.tensor([float(x) for x in numbers], dtype=dtype, device=device)


_ready: dict[tuple[str, str, str], Kernel] = {}
compiles = 0
"""How many programs have been compiled in this process: tests count that none is twice."""


_pieces: int | None = None


@contextmanager
def in_pieces(entries: int) -> Iterator[None]:
    """Runs programs as they are written, on so many entries at once: what a kernel may not see."""
    global _pieces
    before, _pieces = _pieces, entries
    try:
        yield
    finally:
        _pieces = before


def kernel(program: Program, device: torch.device, how: str = "fused") -> Kernel:
    """What runs `program` there: machine code, or else what `torch.compile` makes of it.

    For `how` "foreach", torch's functions of lists; for "auto" too, on other devices than a CPU: to
    call a compiled function for each tensor takes the host longer.
    """
    if _pieces is not None:
        return Leafwise(program, lambda *given: program(given[:-1], given[-1]), _pieces)
    if by_lists(device, how):
        return Foreach(program)
    way = os.environ.get("FUNCOPT_KERNELS", "native") if device.type == "cpu" else "compiled"
    key = (way, device.type, program.text())
    if key not in _ready:
        _ready[key] = _made(program, device, way)
    return _ready[key]


def by_lists(device: torch.device, how: str) -> bool:
    """Whether programs run there by torch's functions of lists."""
    return how == "foreach" or (how == "auto" and device.type != "cpu")


def _made(program: Program, device: torch.device, how: str) -> Kernel:
    global compiles
    chunk = (MEASURED if program.measures else CHUNK) if device.type == "cpu" else sys.maxsize
    if how == "interpreted":
        return Leafwise(program, lambda *given: program(given[:-1], given[-1]), chunk)
    if not has_compiler():
        raise Unsupported("no C++ compiler was found")
    compiles += 1
    begin = time.perf_counter()
    ways: dict[str, Callable[[], Kernel]] = {
        "native": lambda: Native(program),
        "compiled": lambda: Leafwise(program, _compiled(program, device), chunk),
    }
    what = f"a pass of {len(program.calls)} operations on {program.wide}"
    for way in list(ways)[how != "native" :]:
        kept = way == "native" and _native.is_kept(program)
        try:
            # Whoever watches the step has nothing to do with how it is compiled.
            with warnings.catch_warnings(action="ignore"), _disable_current_modes():
                made = ways[way]()
        except Exception as error:  # whatever a compiler may find
            log.warning("%s could not be compiled (%s): %s", what, way, _line(error))
            continue
        seconds = time.perf_counter() - begin
        log.info("%s %s in %.2f s (%s)", "loaded" if kept else "compiled", what, seconds, way)
        return made
    raise Unsupported(f"{what}, which could not be compiled")


def has_compiler() -> bool:
    """Whether there is a C++ compiler, where Inductor would look for one."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    return any(map(shutil.which, names))


def _compiled(program: Program, device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    function = torch.compile(program.module(), dynamic=True, fullgraph=True)
    tensors, row = _native.examples(program, device)
    function(*tensors, row)  # now, and not in the middle of a step
    return function


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
