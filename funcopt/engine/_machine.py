"""The machine that runs bytecode: one library for all chains, compiled once for this computer."""

import ctypes
import functools
import logging
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch

from .._numerics import blockwise
from . import _libraries
from ._bytecode import STORAGES
from ._guards import Unsupported
from ._instructions import (
    BINARY,
    BINARY_PRIMITIVES,
    CODES,
    FUSED,
    LARGE_BOOKS,
    OF_BLOCKS,
    REDUCTIONS,
    ROUNDED,
    SHARED,
    TERNARY,
    UNARY,
    UNARY_PRIMITIVES,
    Pattern,
    letters,
)

log = logging.getLogger("funcopt")


_failed: list[Exception] = []
"""Why the machine could not be compiled in this process: that is not tried for every graph."""


def driver(dtype: torch.dtype, of: Literal["tensors", "tiles"] = "tensors") -> Any:
    """The machine for a compute dtype; compiled at the first call on this computer, then kept.

    It passes over lists of tensors, or over the tiles of a matrix.

    Raises:
        Unsupported: If it could not be compiled.
    """
    if _failed:
        raise Unsupported(f"the machine could not be compiled: {_failed[0]}")
    try:
        return _drivers()[of, dtype]
    except Exception as error:  # whatever a compiler may find
        _failed.append(error)
        raise


@functools.cache
def _drivers() -> dict[tuple[str, torch.dtype], Any]:
    begin, kept = time.perf_counter(), is_installed()
    if not kept:
        log.info("compiling the C++ code that runs steps: once for this computer and this torch")
    library = _libraries.load_library([MACHINE], lambda: MACHINE)
    seconds = time.perf_counter() - begin
    log.info("%s the C++ code that runs steps in %.2f s", "loaded" if kept else "compiled", seconds)
    address, count = ctypes.c_void_p, ctypes.c_int64
    program = [address] * 5
    arguments = {
        "tensors": [*program, count, address, address, count, address, address, address, count],
        "tiles": [*program, address, address, address, address, address, count],
    }
    names = {"tensors": "drive", "tiles": "drive_tiles"}
    found = {}
    for of, name in names.items():
        for dtype, c_type in ((torch.float32, "float"), (torch.float64, "double")):
            drive = found[of, dtype] = getattr(library, f"{name}_{c_type}")
            drive.restype, drive.argtypes = None, arguments[of]
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


def _value(form: str | Pattern) -> str:
    """The value of a pattern in C++."""
    return form if isinstance(form, str) else f"op_{form[0]}({', '.join(map(_value, form[1:]))})"


def _on_vectors(form: Pattern) -> str:
    """What an operation on vectors does to the block `in`."""
    given = letters(form)
    parameters, value = ", auto ".join(given), _value(form)
    numbers = [x for x in given if x.isupper()]
    if not numbers:
        kind = ("unary", "binary", "ternary")[len(given) - 1]
        return f"in.{kind}(s, [](auto {parameters}) {{ return {value}; }});"
    registers = [f"in.reg[s.{name}]" for name in "abcdefgh"[: len(given)]]
    first = len(given) - len(numbers)
    uniform = ", ".join(f"{x}({y}[0])" for x, y in zip(numbers, registers[first:], strict=True))
    parameters, vectors = ", auto ".join(given[:first]), ", ".join(registers[:first])
    function = f"[&](auto {parameters}) {{ return {value}; }}"
    return f"const Vec<T> {uniform};\n  each(in.n, in.reg[s.to], {function}, {vectors});"


def _elementwise(*names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Operations on vectors: those of one argument, of two, of three; and what they do."""
    for count, codes in enumerate(names, 1):
        for code in codes:
            yield code, _on_vectors((code, *"xyz"[:count]))


def _operations() -> Iterator[tuple[str, str]]:
    """What there is in every compute dtype, and what it does."""
    yield from _elementwise((*UNARY, *ROUNDED), BINARY, TERNARY)
    for name, form in FUSED.items():
        yield name, _on_vectors(form)
    for name, c_type in C_TYPES.items():
        yield f"load_{name}", f"load<{c_type}>(in.n, in.reg[s.to], in.reg[s.a]);"
        yield f"store_{name}", f"store<{c_type}>(in.n, in.reg[s.to], in.reg[s.a]);"


def _primitives() -> Iterator[tuple[str, str]]:
    """What there is in float32."""
    yield from _elementwise(UNARY_PRIMITIVES, BINARY_PRIMITIVES)
    for name in SHARED.values():
        yield f"load_{name}", f"all_load_{name}(in.n, in.reg[s.to], in.reg[s.a]);"
        yield f"store_{name}", f"all_store_{name}(in.n, in.reg[s.to], in.reg[s.a]);"
    for name in OF_BLOCKS:
        numbers = "*in.reg[s.a], *in.reg[s.b], *in.reg[s.c]"
        args = (
            f"in.at, in.reg[s.to], {numbers}" if name == "bits16" else "in.reg[s.to], in.reg[s.a]"
        )
        yield name, f"all_{name}(in.n, {args});"


def _function(code: str, what: str) -> str:
    """The function of an instruction."""
    parameters = "[[maybe_unused]] const Instruction& s, const Frame<T>& in"
    return f"template <typename T>\nvoid run_{code}({parameters}) {{\n  {what}\n}}\n"


def _table(codes: Iterable[str]) -> str:
    return " ".join(f"of[{x.upper()}] = run_{x}<T>;" for x in codes)


def _machine() -> str:
    general, of_float = dict(_operations()), dict(_primitives())
    functions = (_function(code, what) for code, what in (general | of_float).items())
    return (
        (_text("_machine.cpp") + _text("_tiles.cpp"))
        .replace("{ CODES", f"{{ {', '.join(map(str.upper, CODES))}", 1)
        .replace("{ STORAGES }", f"{{ {', '.join(x.upper() or 'OWN' for x in STORAGES)} }}", 1)
        .replace("// OPERATIONS", "\n".join(functions), 1)
        .replace("// HANDLERS", _table([*general, *REDUCTIONS]), 1)
        .replace("// PRIMITIVES", _table(of_float), 1)
    )


OPERATIONS = _text("_operations.cpp") + _text("_storage.cpp").replace("// BOOKS\n", _books(), 1)
"""What all instructions do, in C++; an unnamed namespace that is to be closed."""

MACHINE = OPERATIONS + _machine()
