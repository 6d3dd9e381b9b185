"""The machine that runs bytecode: one library for all chains, compiled once for this computer."""

import ctypes
import functools
import logging
import pathlib
import time
from typing import Any

import torch

from .._numerics import blockwise
from . import _libraries
from ._bytecode import STORAGES
from ._guards import Unsupported
from ._instructions import CODES

log = logging.getLogger("funcopt")


_failed: list[Exception] = []
"""Why the machine could not be compiled in this process: that is not tried for every graph."""


def driver(dtype: torch.dtype) -> Any:
    """The machine for a compute dtype; compiled at the first call on this computer, then kept.

    Raises:
        Unsupported: If it could not be compiled.
    """
    if _failed:
        raise Unsupported(f"the machine could not be compiled: {_failed[0]}")
    try:
        return _drivers()[dtype]
    except Exception as error:  # whatever a compiler may find
        _failed.append(error)
        raise


@functools.cache
def _drivers() -> dict[torch.dtype, Any]:
    begin, kept = time.perf_counter(), is_installed()
    if not kept:
        log.info("compiling the C++ code that runs steps: once for this computer and this torch")
    library = _libraries.load_library([MACHINE], lambda: MACHINE)
    seconds = time.perf_counter() - begin
    log.info("%s the C++ code that runs steps in %.2f s", "loaded" if kept else "compiled", seconds)
    found = {torch.float32: library.drive_float, torch.float64: library.drive_double}
    address, count = ctypes.c_void_p, ctypes.c_int64
    for drive in found.values():
        drive.restype = None
        drive.argtypes = [
            *[address] * 5, count, address, address, count, address, address, address, count
        ]  # fmt: skip
    return found


def is_loaded() -> bool:
    """Whether it has run in this process."""
    return bool(_drivers.cache_info().currsize)


def is_installed() -> bool:
    """Whether the machine has been compiled before, on this computer."""
    return _libraries.is_compiled([MACHINE])


def _text(name: str) -> str:
    return pathlib.Path(__file__).with_name(name).read_text(encoding="utf-8")


def _books() -> str:
    """The books of numbers, as constants of C++."""
    lines = []
    for name in blockwise.BOOKS:
        numbers = (
            ", ".join(f"{x.hex()}f" for x in table)
            for table in (blockwise.BOOKS[name], blockwise.BOUNDARIES[name])
        )
        lines.append(f"const Book {name.upper()}_BOOK({{{'}, {'.join(numbers)}}});")
    return "\n".join(lines)


MACHINE = (
    _text("_machine.cpp")
    .replace("{ CODES }", f"{{ {', '.join(map(str.upper, CODES))} }}", 1)
    .replace("{ STORAGES }", f"{{ {', '.join(x.upper() or 'OWN' for x in STORAGES)} }}", 1)
    .replace("// STORAGE\n", _text("_storage.cpp").replace("// BOOKS\n", f"{_books()}\n", 1), 1)
)
