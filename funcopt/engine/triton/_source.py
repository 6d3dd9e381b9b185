"""Triton source of a lowered graph: one kernel for a whole pass, over a table of pointers.

A program of the grid works on one task, that is, a piece of one tensor. The text, and what it is
compiled to, do not depend on how many tensors there are, or on their sizes.
"""

import itertools
import re
from collections.abc import Sequence

import torch

from ..._numerics.blockwise import BOOKS, BOUNDARIES
from .._calls import Input
from .._instructions import FLAGS, NARROW
from .._translation import Instruction, Listing, Register

TYPES = {
    torch.float64: "tl.float64",
    torch.float32: "tl.float32",
    torch.bfloat16: "tl.bfloat16",
    torch.float16: "tl.float16",
    torch.int16: "tl.int16",
    torch.int8: "tl.int8",
    torch.uint8: "tl.uint8",
}
BY_NAME = {name: TYPES[dtype] for dtype, name in NARROW.items()}


def books() -> list[float]:
    """All books, each after its boundaries, as kernels look them up."""
    return [x for name in BOOKS for x in (*BOUNDARIES[name], *BOOKS[name])]


def _looked_up(text: str, name: str, of_boundaries: bool) -> str:
    """An expression that looks up one of them."""
    others = list(BOOKS)[: list(BOOKS).index(name)]
    before, size = sum(2 * len(BOOKS[x]) - 1 for x in others), len(BOOKS[name])
    return text.format(before + (0 if of_boundaries else size - 1), size.bit_length() - 1)


EXPRESSIONS = {
    "copy": "{0}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "square": "{0} * {0}",
    "sqrt": "rooted({0})",
    "rsqrt": "divided({one}, rooted({0}))",
    "reciprocal": "divided({one}, {0})",
    "sign": "({0} > 0).to({dtype}) - ({0} < 0).to({dtype})",
    "exp": "tl.exp({0})",
    "expm1": "exp_less_one({0})",
    "log": "tl.log({0})",
    "log1p": "log_of_more({0})",
    "tanh": "tangent({0})",
    "sigmoid": "divided({one}, {one} + tl.exp(-{0}))",
    "isnan": "{0} != {0}",
    "isfinite": "tl.abs({0}) < float('inf')",
    "signbit": "is_negative({0})",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "divided({0}, {1})",
    "maximum": "largest({0}, {1})",
    "minimum": "smallest({0}, {1})",
    "pow": "powered({0}, {1})",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "not": "{0} == 0",
    "and": "({0} != 0) & ({1} != 0)",
    "or": "({0} != 0) | ({1} != 0)",
    "xor": "{0} != {1}",
    "where": "tl.where({0} != 0, {1}, {2})",
    "clamp": "smallest(largest({0}, {1}), {2})",
    "lerp": "from_nearer({0}, {1}, {2})",
    "fmadd": "tl.fma({0}, {1}, {2})",
    "word": "joined_word({0}, {1})",
    "mixed": "mixed_words({0}, {1})",
    "bits16": "random_bits({0}, {1}, {2}, place, BLOCK)",
    "truncated": "cut_off({0})",
    "low_half": "lower_bits({0})",
    "with_low_half": "with_lower_bits({0}, {1})",
    "rounded_at_random": "up_or_down({0}, {1})",
    "residual_bfloat16": "rest_of({0}, {1}, 7, -126)",
    "residual_float16": "rest_of({0}, {1}, 10, -14)",
    "with_residual_bfloat16": "with_rest({0}, {1}, 7, -126)",
    "with_residual_float16": "with_rest({0}, {1}, 10, -14)",
    "block_amax_128": "amax_of_blocks({0}, here, 128, BLOCK)",
    "block_amax_256": "amax_of_blocks({0}, here, 256, BLOCK)",
    "encoded_float8": "to_float8({0})",
    "decoded_float8": "from_float8({0})",
    **{f"encoded_{x}": _looked_up("place_in_book({{0}}, BOOKS + {}, {})", x, True) for x in BOOKS},
    **{f"decoded_{x}": _looked_up("number_at({{0}}, BOOKS + {})", x, False) for x in BOOKS},
}
"""Of every instruction. A flag is 1 or 0 in the compute dtype, as in every machine."""

REDUCED = {
    "sum": ("0.0", "{0} + {1}", "tl.sum({0}, 0)"),
    "amax": ("-float('inf')", "largest({0}, {1})", "tl.reduce({0}, 0, largest)"),
    "amin": ("float('inf')", "smallest({0}, {1})", "tl.reduce({0}, 0, smallest)"),
}
"""What the reduction of nothing is, how two values are joined lane by lane, and how the lanes."""

LETTERS = {"tensor": "x", "scalar": "e", "uniform": "u", "value": "v"}


class Text:
    """Lines of source."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, depth: int, *lines: str) -> None:
        self._lines += ["    " * depth + line for line in lines]

    def __str__(self) -> str:
        return "\n".join([*self._lines, ""])


class Names:
    """What registers are called, and instructions as lines."""

    def __init__(self, dtype: torch.dtype, constants: Sequence[float]) -> None:
        self.dtype, self._constants = TYPES[dtype], constants

    def __call__(self, x: Register) -> str:
        if x.kind == "constant":
            return self.constant(self._constants[x.number])
        return f"{LETTERS[x.kind]}{x.number}"

    def constant(self, value: float) -> str:
        """A number in the compute dtype: Triton would make it float32."""
        text = repr(value) if abs(value) < float("inf") else f"float('{value}')"
        return f"tl.full((), {text}, {self.dtype})"

    def line(self, one: Instruction) -> str:
        """An instruction."""
        args = list(map(self, one.args))
        verb, _, of = one.code.partition("_")
        if verb == "load":
            text = f"{args[0]}.to({self.dtype})"
        elif verb == "round":
            text = f"{_stored(args[0], BY_NAME[of])}.to({self.dtype})"
        else:
            text = EXPRESSIONS[one.code].format(*args, one=self.constant(1.0), dtype=self.dtype)
            if one.code in FLAGS:
                text = f"({text}).to({self.dtype})"
        return f"{self(one.to)} = {text}"


def _stored(value: str, dtype: str) -> str:
    """A value in another dtype; through float32 to a half, as torch."""
    if "int" in dtype:
        return f"({value}).to(tl.int32).to({dtype})"
    return f"({value}).to(tl.float32).to({dtype})" if "16" in dtype else f"({value}).to({dtype})"


def _jit(numbers: Sequence[str], pointers: Sequence[str]) -> str:
    """Compiles once, whatever the numbers are, and at which addresses tables lie."""
    options = f"do_not_specialize={numbers}, do_not_specialize_on_alignment={pointers}"
    return f"@triton.jit({options})"


def pass_source(listing: Listing) -> str:
    """The source of `kernel`, which runs a listing over all tasks.

    TASKS  int64, four for each task: leaf, start, length and row of scalars
    TABLE  int64: the addresses of the tensors, column by column; then those of the scalars,
           row by row, odd where they are float32
    OUT    float64: what every task has measured
    """
    names, put = Names(listing.dtype, listing.constants), Text()
    used = {x for one in listing.body for x in one.args}
    used |= {x for _, x in listing.writes} | {x.register for x in listing.measures}
    given = sorted(x for x in used if x.kind in ("tensor", "scalar", "uniform"))
    made = [names(x) for _, x in listing.writes] + [names(x.register) for x in listing.measures]
    codes = {one.code for one in listing.body}
    asked = [
        f"{x}: tl.constexpr" if x == "BLOCK" else x
        for x in ("place", "here", "BLOCK", "BOOKS")
        if any(re.search(rf"\b{x}\b", EXPRESSIONS.get(code, "")) for code in codes)
    ]
    read = [x.number for x in given if x.kind == "tensor"]
    columns, width, measures = len(listing.tensors), listing.scalars, len(listing.measures)
    put(0, "@triton.jit", f"def body({', '.join([*map(names, given), *asked])}):")
    put(1, *map(names.line, listing.body), f"return ({''.join(f'{x}, ' for x in made)})", "")
    given_too = ["BOOKS"] if looks_up(listing) else []
    pointers = ["TASKS", *given_too, "TABLE", *(["OUT"] if measures else [])]
    put(0, "", _jit(["leaves"], pointers))
    put(0, f"def kernel({', '.join(pointers)}, leaves, BLOCK: tl.constexpr):")
    put(1, "task = tl.program_id(0).to(tl.int64)")
    for k, name in enumerate(("leaf", "start", "length", "row")):
        put(1, f"{name} = tl.load(TASKS + 4 * task + {k})")
    put(1, "length = length.to(tl.int32)", f"slots = TABLE + {columns} * leaves + row * {width}")
    for k in range(width):
        put(1, f"e{k} = scalar(tl.load(slots + {k})).to({names.dtype})")
    put(1, *map(names.line, listing.uniform))
    for k, x in enumerate(listing.tensors):
        before = "start" if x.per == 1 else f"(start // {x.per})"
        put(1, f"a{k} = tl.load(TABLE + {k} * leaves + leaf) + {before} * {x.dtype.itemsize}")
    for k, one in enumerate(listing.measures):
        put(1, f"s{k} = tl.full((BLOCK,), {REDUCED[one.code][0]}, {names.dtype})")
    together = " | ".join(f"a{k}" for k in range(columns))
    put(1, f"if (({together}) % 16 == 0) & (length % 8 == 0):")
    for aligned in (True, False):
        put(1, *([] if aligned else ["else:"]))
        for k, x in enumerate(listing.tensors):
            pointer = f"a{k}.to(tl.pointer_type({TYPES[x.dtype]}))"
            put(2, f"p{k} = tl.multiple_of({pointer}, 16)" if aligned else f"p{k} = {pointer}")
        put(2, "end = tl.multiple_of(length, 8)" if aligned else "end = length")
        put(2, "for begin in range(0, end, BLOCK):")
        put(3, "at = begin + tl.arange(0, BLOCK)", "here = at < end")
        put(3, *(f"x{k} = {_loaded(f'p{k}', listing.tensors[k])}" for k in read))
        put(3, *(["place = start + begin"] if "place" in asked else []))
        out = [f"w{k}" for k, _ in listing.writes] + [f"q{k}" for k in range(measures)]
        arguments = [*map(names, given), *(x.partition(":")[0] for x in asked)]
        put(3, f"{''.join(f'{x}, ' for x in out)}= body({', '.join(arguments)})")
        put(3, *(_store(f"p{k}", f"w{k}", listing.tensors[k]) for k, _ in listing.writes))
        for k, one in enumerate(listing.measures):
            nothing, joined, _ = REDUCED[one.code]
            value = f"tl.where(here, q{k}, tl.full((), {nothing}, {names.dtype}))"
            put(3, f"s{k} = {joined.format(f's{k}', value)}")
    for k, one in enumerate(listing.measures):
        factor = "" if one.factor is None else f" * {names(one.factor)}"
        value = REDUCED[one.code][2].format(f"s{k}") + factor
        put(1, f"tl.store(OUT + task * {measures} + {k}, ({value}).to(tl.float64))")
    return str(put)


def looks_up(listing: Listing) -> bool:
    """Whether its kernel needs `books`."""
    return any("BOOKS" in EXPRESSIONS.get(one.code, "") for one in listing.body)


def _loaded(pointer: str, x: Input) -> str:
    """The numbers of the entries `at`, as they are stored."""
    if x.per == 1:
        return f"tl.load({pointer} + at, here, other=0.0)"
    text = f"tl.load({pointer} + at // {x.per}, here, other=0)"
    return text if x.per > 2 else f"({text}.to(tl.int32) >> (4 - 4 * (at % 2))) & 15"


def _store(pointer: str, value: str, x: Input) -> str:
    """Stores those of the entries `at`."""
    stored = _stored(value, TYPES[x.dtype])
    if x.per == 1:
        return f"tl.store({pointer} + at, {stored}, here)"
    if x.per > 2:
        return f"tl.store({pointer} + at // {x.per}, {stored}, here & (at % {x.per} == 0))"
    two = "begin // 2 + tl.arange(0, BLOCK // 2)"
    codes = f"pairs({value}, here, BLOCK).to(tl.uint8)"
    return f"tl.store({pointer} + {two}, {codes}, {two} < (end + 1) // 2)"


STORED = {**TYPES, torch.int64: "tl.int64", torch.bool: "tl.int1"}


def scalar_source(
    listing: Listing,
    totals: Sequence[int | None],
    measured: Sequence[torch.dtype],
    outputs: Sequence[torch.dtype],
    combine: str,
    scattered: bool = False,
) -> str:
    """The source of `kernel`, which runs a listing of scalars, and of sums of parts, if there are.

        PARTS   float64: the measures of all tasks
        RANGES  int64, three for each program: the first and last of its parts, its row of scalars
        TABLE   int64: the addresses of scalars, row by row
        V0 ...  the results, by dtype: a row for each program

    Without measures there is one program, and no PARTS and RANGES.

    Args:
        listing: What is computed, in float64.
        totals: For each of its scalars, which measure it is; `None` for those of the table.
        measured: The dtypes to which the sums are rounded.
        outputs: The dtypes of what it writes.
        combine: How parts are combined: "sum", "max" or "min".
        scattered: Whether results lie apart: TABLE begins with the address of each.
    """
    names, put, count = Names(listing.dtype, listing.constants), Text(), len(measured)
    nothing, joined, together = REDUCED[{"max": "amax", "min": "amin"}.get(combine, combine)]
    kinds = [] if scattered else list(dict.fromkeys(outputs))
    width, before = totals.count(None), len(outputs) if scattered else 0
    parts = ["PARTS", "RANGES"] if measured else []
    pointers = [*parts, "TABLE", *(f"V{k}" for k in range(len(kinds)))]
    put(0, _jit([], pointers), f"def kernel({', '.join(pointers)}, BLOCK: tl.constexpr):")
    put(1, "program = tl.program_id(0).to(tl.int64)")
    for k, name in enumerate(("first", "last", "row") if measured else ()):
        put(1, f"{name} = tl.load(RANGES + 3 * program + {k}).to(tl.int32)")
    for k in range(count):
        put(1, f"s{k} = tl.full((BLOCK,), {nothing}, tl.float64)")
    if measured:
        put(1, "for begin in range(first, last, BLOCK):")
        put(2, "at = begin + tl.arange(0, BLOCK)")
    for k in range(count):
        value = f"tl.load(PARTS + at * {count} + {k}, at < last, other={nothing})"
        put(2, f"s{k} = {joined.format(f's{k}', value)}")
    for k, dtype in enumerate(measured):
        rounded = f".to({TYPES[dtype]}).to({names.dtype})" if dtype in TYPES else ""
        put(1, f"t{k} = {together.format(f's{k}')}{rounded}")
    slots, row = itertools.count(before), f"row * {width} + " if measured else ""
    for k, total in enumerate(totals):
        if total is None:
            put(1, f"e{k} = scalar(tl.load(TABLE + {row}{next(slots)}))")
        else:
            put(1, f"e{k} = t{total}")
    put(1, *(f"a{k} = tl.load(TABLE + {k})" for k in range(before)))
    put(1, *map(names.line, listing.uniform))
    columns = dict.fromkeys(kinds, 0)
    for k, (dtype, (_, written)) in enumerate(zip(outputs, listing.writes, strict=True)):
        if scattered:
            kind = "tl.int8" if dtype is torch.bool else STORED[dtype]
            made = f"({names(written)}).to({kind})"
            put(1, f"tl.store(a{k}.to(tl.pointer_type({kind})), {made})")
            continue
        made = f"({names(written)}).to({STORED[dtype]})"
        place = f"V{kinds.index(dtype)} + program * {outputs.count(dtype)} + {columns[dtype]}"
        put(1, f"tl.store({place}, {made})")
        columns[dtype] += 1
    return str(put)


def joined_source(arguments: Sequence[int]) -> str:
    """The source of `kernel`, which runs kernels of one program, one after another.

    Each begins when all before it have written what they make.

    Args:
        arguments: How many arguments, all of them pointers, each of `kernel0`, `kernel1`, ... has.
    """
    put, names = Text(), [[f"P{k}_{j}" for j in range(n)] for k, n in enumerate(arguments)]
    pointers = list(itertools.chain.from_iterable(names))
    put(0, _jit([], pointers), f"def kernel({', '.join(pointers)}, BLOCK: tl.constexpr):")
    for k, own in enumerate(names):
        put(1, *(["tl.debug_barrier()"] if k else []))
        put(1, f"kernel{k}({', '.join(own)}, BLOCK)")
    return str(put)
