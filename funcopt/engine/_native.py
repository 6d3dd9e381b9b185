"""Machine code of its own for a pass: a listing as C++, which is compiled before its first step.

The machine keeps what is computed in blocks in the cache, instruction by instruction. Here it stays
in registers of the processor: the same functions of `_operations.cpp` are called in a loop over the
vectors of a unit of entries. An instruction that sees a unit as a whole, such as the scale of a
block or random bits, stands between two loops, and works on arrays of one unit.
"""

import ctypes
import math
from collections.abc import Collection, Iterable
from typing import Any

import torch

from . import _libraries, _machine
from ._calls import Input
from ._guards import Unsupported
from ._instructions import OF_BLOCKS
from ._loops import in_arrays, loops_of
from ._translation import VARYING, Instruction, Listing, Register, storage

UNIT = 256
"""Entries: a multiple of every vector's length, and of what shares a scale or random bits."""

IN_VECTORS = ("bfloat16", "half", "int8")
"""Storages whose entries are converted vector by vector, if to float32; others, unit by unit."""

TO_BFLOAT16 = ("rounded_at_random", "truncated", "round_bfloat16")
"""Instructions whose result bfloat16 has."""

OWN = {torch.float32: "float", torch.float64: "double"}

SPECIAL = {math.inf: "INFINITY", -math.inf: "-INFINITY"}

EMPTY = {"sum": "T(0)", "amax": "T(-INFINITY)", "amin": "T(INFINITY)"}
"""What is measured of no entries."""

JOINED = {"sum": "op_add", "amax": "op_maximum", "amin": "op_minimum"}

PASS = """
using T = {type};

void work(
    const int64_t leaf, const int64_t from, const int64_t length, const int64_t* pointers,
    const int64_t leaves, const T* row, double* out) {{
  using V = Vec<T>;
  constexpr int64_t UNIT = {unit};
{before}
  // `whole` is false for the last entries, which are worked on in arrays of a whole unit.
  const auto unit = [&](auto whole, const int64_t n, const int64_t place{parameters}) {{
    (void)whole; (void)n; (void)place;
{body}
  }};
  for (int64_t start = 0; start < length; start += UNIT) {{
    const int64_t n = std::min(UNIT, length - start);
    if (n == UNIT) {{
      unit(std::true_type(), UNIT, from + start{arguments});
{advance}
    }} else {{
{given}
      unit(std::false_type(), n, from + start{rest});
{returned}
    }}
  }}
{after}
}}

}}  // namespace

extern "C" void drive(
    const int64_t tasks, const int64_t* table, const int64_t* pointers, const int64_t leaves,
    const T* rows, const int64_t* row_of, double* out, const int64_t threads) {{
  const int64_t grain = std::max<int64_t>(1, tasks / (threads * 16));
  #pragma omp parallel for schedule(dynamic, grain) num_threads(threads) if (threads > 1)
  for (int64_t t = 0; t < tasks; t++)
    work(table[3 * t], table[3 * t + 1], table[3 * t + 2], pointers, leaves,
         rows + row_of[table[3 * t]] * {scalars}, out + t * {measures});
}}
"""


def load_or_compile(listing: Listing) -> Any:
    """The driver for a listing, from the cache on disk if it is there."""
    text = source(listing)
    drive = _libraries.load_library([text], lambda: text).drive
    drive.restype = None
    address, count = ctypes.c_void_p, ctypes.c_int64
    drive.argtypes = [count, address, address, count, address, address, address, count]
    return drive


def is_cached(listing: Listing) -> bool:
    """Whether it has been compiled before, on this machine."""
    return _libraries.is_compiled([source(listing)])


def source(listing: Listing) -> str:
    """The C++ code of a listing, and of its driver.

    Raises:
        Unsupported: If a whole unit is to be stored as one number.
    """
    columns = range(len(listing.tensors))
    types, per = (
        [_c_type(x, listing.dtype) for x in listing.tensors],
        [x.per for x in listing.tensors],
    )
    sizes = [f"(n + {per[k] - 1}) / {per[k]} * sizeof({types[k]})" for k in columns]
    written = [k for k, _ in listing.writes]
    given = (
        f"alignas(64) {types[k]} t{k}[UNIT / {per[k]}] = {{}}; std::memcpy(t{k}, x{k}, {sizes[k]});"
        for k in columns
    )
    return _machine.OPERATIONS + PASS.format(
        type=OWN[listing.dtype],
        unit=UNIT,
        before=_lines(2, _before(listing, types)),
        parameters="".join(f", {types[k]}* x{k}" for k in columns),
        body=_lines(4, _body(listing)),
        arguments="".join(f", x{k}" for k in columns),
        advance=_lines(6, (f"x{k} += UNIT / {per[k]};" for k in columns)),
        given=_lines(6, given),
        rest="".join(f", t{k}" for k in columns),
        returned=_lines(6, (f"std::memcpy(x{k}, t{k}, {sizes[k]});" for k in written)),
        after=_lines(2, _after(listing)),
        scalars=listing.scalars,
        measures=len(listing.measures),
    )


def _lines(depth: int, lines: Iterable[str]) -> str:
    return "\n".join(" " * depth + line for line in lines)


def _c_type(x: Input, own: torch.dtype) -> str:
    if x.per > 1:
        return "uint8_t" if x.dtype is torch.uint8 else "float"
    return _machine.C_TYPES.get(storage(x, own), OWN[own])


def _before(listing: Listing, types: list[str]) -> Iterable[str]:
    """What there is once for a task: addresses, numbers, and what has been measured."""
    for k, (x, c_type) in enumerate(zip(listing.tensors, types, strict=True)):
        address = f"reinterpret_cast<{c_type}*>(pointers[{k} * leaves + leaf])"
        yield f"{c_type}* x{k} = {address} + from / {x.per};"
    yield from (f"const V e{k}(row[{k}]);" for k in range(listing.scalars))
    yield from (f"const V c{k}(T({_number(x)}));" for k, x in enumerate(listing.constants))
    yield from map(_on_vectors, listing.uniform)
    yield from (f"V s{k}({EMPTY[x.code]});" for k, x in enumerate(listing.measures))


def _number(x: float) -> str:
    return x.hex() if math.isfinite(x) else SPECIAL.get(x, "NAN")


def _after(listing: Listing) -> Iterable[str]:
    for k, x in enumerate(listing.measures):
        factor = "" if x.factor is None else f" * {_first(x.factor)}"
        joined = f"[](V& x, V& y) {{ return {JOINED[x.code]}(x, y); }}"
        yield f"out[{k}] = at::vec::vec_reduce_all<T>({joined}, s{k}){factor};"


def _body(listing: Listing) -> Iterable[str]:
    """What is done with a unit."""
    loops = loops_of(listing, lambda one: _is_of_units(one, listing.dtype))
    arrays = in_arrays(loops)
    yield from (f"alignas(64) T {_array(x)}[UNIT];" for x in sorted(arrays))
    for loop in loops:
        yield from map(_on_unit, loop.units)
        if loop.vectors:
            yield "for (int64_t i = 0; i < UNIT; i += V::size()) {"
            yield from (
                f"  const V {_name(x)} = V::loadu({_array(x)} + i);" for x in sorted(loop.given)
            )
            exact = {one.to for one in loop.vectors if one.code in TO_BFLOAT16}
            for one in loop.vectors:
                yield f"  {_on_vectors(one, exact)}"
                if one.to in arrays:
                    yield f"  {_name(one.to)}.store({_array(one.to)} + i);"
            yield "}"


def _is_of_units(one: Instruction, own: torch.dtype) -> bool:
    verb, _, stored = one.code.partition("_")
    if verb in ("load", "store") and stored:
        return own is not torch.float32 or stored not in IN_VECTORS
    return one.code in OF_BLOCKS


LETTERS = {"scalar": "e", "constant": "c", "uniform": "u", "value": "v", "tensor": "w"}


def _name(x: Register) -> str:
    """A vector."""
    return f"{LETTERS[x.kind]}{x.number}"


def _array(x: Register) -> str:
    """All entries of a unit."""
    if x.kind not in VARYING:
        raise Unsupported("one number that is stored for a block")
    return f"{'x' if x.kind == 'tensor' else 'b'}{x.number}"


def _first(x: Register) -> str:
    """One number."""
    return f"first({_name(x)})"


def _on_vectors(one: Instruction, exact: Collection[Register] = ()) -> str:
    """An instruction on vectors; what is `exact` is in bfloat16."""
    verb, _, stored = one.code.partition("_")
    if verb == "load":
        return f"const V {_name(one.to)} = loaded({_array(one.args[0])} + i);"
    (x, *_), names = one.args, [*map(_name, one.args)]
    if verb == "store":
        to = f"{_array(one.to)} + i"
        function = "stored_exactly" if stored == "bfloat16" and x in exact else "stored"
        return f"{function}({to}, {_name(x)});" if stored else f"{_name(x)}.store({to});"
    if one.to.kind == "measure":
        total, left = f"s{one.to.number}", "std::clamp<int64_t>(n - i, 0, V::size())"
        some = f"V::set(V({EMPTY[one.code]}), {_name(x)}, {left})"
        return f"{total} = {JOINED[one.code]}({total}, whole ? {_name(x)} : {some});"
    return f"const V {_name(one.to)} = op_{one.code}({', '.join(names)});"


def _on_unit(one: Instruction) -> str:
    """An instruction on a whole unit."""
    verb, _, stored = one.code.partition("_")
    to = _array(one.to)
    if verb in ("load", "store"):
        call = (
            f"{verb}<{_machine.C_TYPES[stored]}>"
            if stored in _machine.C_TYPES
            else f"all_{one.code}"
        )
        return f"{call}(n, {to}, {_array(one.args[0])});"
    if one.code == "bits16":
        return f"all_bits16(n, place, {to}, {', '.join(map(_first, one.args))});"
    return f"all_{one.code}(n, {to}, {', '.join(map(_array, one.args))});"
