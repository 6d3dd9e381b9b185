"""The machine that runs bytecode: one library for all chains, compiled once for this computer."""

import ctypes
import functools
import logging
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import torch

from .._numerics import blockwise
from . import _libraries
from ._bytecode import STORAGES
from ._guards import Unsupported
from ._instructions import (
    BINARY,
    BINARY_PRIMITIVES,
    CODES,
    LARGE_BOOKS,
    OF_BLOCKS,
    ROUNDED,
    SHARED,
    TERNARY,
    UNARY,
    UNARY_PRIMITIVES,
)

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
    """The books of numbers, as constants of C++, and what looks them up."""
    lines = []
    for name in blockwise.BOOKS:
        book = f"{name.upper()}_BOOK"
        numbers = (
            ", ".join(f"{x.hex()}f" for x in table)
            for table in (blockwise.BOOKS[name], blockwise.BOUNDARIES[name])
        )
        lines.append(f"const Book {book}({{{'}, {'.join(numbers)}}});")
        lines.append(f"inline V op_encoded_{name}(V x) {{ return {book}.encode(x); }}")
        if name in LARGE_BOOKS:
            lines.append(f"inline void all_decoded_{name}(int64_t n, float* to, const float* x) {{")
            lines.append(f"  {book}.decode_all(n, to, x);\n}}")
        else:
            lines.append(f"inline V op_decoded_{name}(V x) {{ return {book}.decode(x); }}")
    return "\n".join([_text("_books.cpp"), *lines, ""])


C_TYPES = {
    "float": "float",
    "bfloat16": "c10::BFloat16",
    "half": "c10::Half",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
}
"""What entries of a column are in C++, by how it is stored."""


def _cases(unary: Sequence[str], binary: Sequence[str], ternary: Sequence[str] = ()) -> list[str]:
    """The cases of operations on vectors."""
    arguments = {"unary": "x", "binary": "x, y", "ternary": "x, y, z"}
    return [
        f"case {x.upper()}: return {kind}"
        f"([]({', '.join(f'V {a}' for a in given.split(', '))}) {{ return op_{x}({given}); }});"
        for names, (kind, given) in zip((unary, binary, ternary), arguments.items(), strict=True)
        for x in names
    ]


def _operations() -> list[str]:
    """The cases of what there is in every compute dtype."""
    loads = [
        line
        for name, c_type in C_TYPES.items()
        for line in (
            f"case LOAD_{name.upper()}: return load<{c_type}>(n, to, memory[s.a]);",
            f"case STORE_{name.upper()}: return store<{c_type}>(n, memory[s.to], a);",
        )
    ]
    return [*_cases((*UNARY, *ROUNDED), BINARY, TERNARY), *loads]


def _primitives() -> list[str]:
    """The cases of what there is in float32."""
    blocks = [
        line
        for name in SHARED.values()
        for line in (
            f"case LOAD_{name.upper()}: return all_load_{name}(n, to, memory[s.a]);",
            f"case STORE_{name.upper()}: return all_store_{name}(n, memory[s.to], a);",
        )
    ]
    return [
        *_cases(UNARY_PRIMITIVES, BINARY_PRIMITIVES),
        *blocks,
        "case BITS16: return all_bits16(n, at, to, a[0], b[0], c[0]);",
        *(f"case {x.upper()}: return all_{x}(n, to, a);" for x in OF_BLOCKS if x != "bits16"),
    ]


OPERATIONS = _text("_operations.cpp") + _text("_storage.cpp").replace("// BOOKS\n", _books(), 1)
"""What all instructions do, in C++; an unnamed namespace that is to be closed."""

MACHINE = OPERATIONS + (
    _text("_machine.cpp")
    .replace("{ CODES }", f"{{ {', '.join(map(str.upper, CODES))} }}", 1)
    .replace("{ STORAGES }", f"{{ {', '.join(x.upper() or 'OWN' for x in STORAGES)} }}", 1)
    .replace("// OPERATIONS", "\n    ".join(_operations()), 1)
    .replace("// PRIMITIVES", "\n      ".join(_primitives()), 1)
)
