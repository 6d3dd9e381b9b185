"""The instructions of the machine, and the functions of torch that they stand for."""

from typing import Any

import torch

from .._numerics.blockwise import BOOKS

UNARY = (
    "not", "neg", "abs", "square", "sqrt", "rsqrt", "reciprocal", "sign", "exp", "expm1", "log",
    "log1p", "tanh", "sigmoid", "isnan", "isfinite", "signbit", "copy",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "maximum", "minimum", "pow", "gt", "ge", "lt", "le", "eq", "ne",
    "and", "or", "xor",
)  # fmt: skip
TERNARY = ("where", "clamp", "lerp", "fmadd")
REDUCTIONS = ("sum", "amax", "amin")
NARROW = {torch.float32: "float", torch.bfloat16: "bfloat16", torch.float16: "half"}
WHOLE = {torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8"}
STORED = {**NARROW, **WHOLE}
"""Dtypes other than that of registers, from and to which entries are converted."""
SHARED = {(torch.uint8, 2): "nibble", **{(torch.float32, x): f"blocks{x}" for x in (128, 256)}}
"""Columns in which several entries share a number: two codes, or one scale for a block."""
ROUNDED = tuple(f"round_{x}" for x in NARROW.values())
CONVERSIONS = (
    *(f"{verb}_{x}" for verb in ("load", "store") for x in (*STORED.values(), *SHARED.values())),
    *ROUNDED,
)
LARGE_BOOKS = tuple(name for name, numbers in BOOKS.items() if len(numbers) > 16)
UNARY_PRIMITIVES = (
    "truncated", "low_half", *(f"{x}_float8" for x in ("encoded", "decoded")),
    *(f"encoded_{x}" for x in BOOKS), *(f"decoded_{x}" for x in BOOKS if x not in LARGE_BOOKS),
)  # fmt: skip
BINARY_PRIMITIVES = (
    "word", "mixed", "with_low_half", "rounded_at_random",
    *(f"{verb}_{x}" for verb in ("residual", "with_residual") for x in ("bfloat16", "float16")),
)  # fmt: skip
OF_BLOCKS = (
    "bits16", "block_amax_128", "block_amax_256", *(f"decoded_{x}" for x in LARGE_BOOKS),
)  # fmt: skip
"""Primitives whose result for an entry depends on others or on where it stands, or that are faster
for many."""
PRIMITIVES = (*UNARY_PRIMITIVES, *BINARY_PRIMITIVES, *OF_BLOCKS)
"""Those of functions of ours that are one operation, in float32; words are kept as their bits."""
Pattern = tuple[Any, ...]
"""A code and its arguments: patterns, letters for registers, capital ones for single numbers."""
_OVER_ROOT: Pattern = ("div", ("mul", "y", "A"), ("add", ("sqrt", ("mul", "z", "B")), "C"))
FUSED: dict[str, Pattern] = {
    "decayed_over_root": ("add", ("mul", ("add", ("mul", "x", "D"), _OVER_ROOT), "E"), "x"),
    "add_over_root": ("add", ("mul", _OVER_ROOT, "D"), "x"),
    "over_root": _OVER_ROOT,
    "decayed_add": ("add", ("mul", ("add", ("mul", "x", "A"), "y"), "B"), "x"),
    "weighted_sum": ("add", ("mul", "x", "A"), ("mul", "y", "B")),
    "mul_div": ("div", ("mul", "x", "z"), "y"),
    "sqrt_add_div": ("div", "y", ("add", ("sqrt", "x"), "z")),
    "add_div": ("div", "y", ("add", "x", "z")),
    "mul_sqrt_add": ("add", ("sqrt", ("mul", "x", "y")), "z"),
    "sqrt_add": ("add", ("sqrt", "x"), "y"),
    "mul_add": ("add", ("mul", "x", "z"), "y"),
    "mul_sub": ("sub", "x", ("mul", "y", "z")),
    "div_add": ("add", ("div", "x", "y"), "z"),
    "sub_add": ("add", ("sub", "x", "y"), "z"),
    "square_lerp": ("lerp", "x", ("mul", "y", "y"), "z"),
    "mul_mul": ("mul", ("mul", "x", "y"), "z"),
    "add_mul": ("mul", ("add", "x", "y"), "z"),
    "sub_mul": ("mul", ("sub", "x", "y"), "z"),
    "div_mul": ("mul", ("div", "x", "y"), "z"),
    "sign_mul": ("mul", ("sign", "x"), "y"),
    "mul_sqrt": ("sqrt", ("mul", "x", "y")),
    "isfinite_not": ("not", ("isfinite", "x")),
    "lerp_sign": ("sign", ("lerp", "x", "y", "z")),
}
"""What the machine of the CPU also has: several of these as one, the preferred first."""
MOST_ARGUMENTS = 8
CODES = (*UNARY, *BINARY, *TERNARY, *REDUCTIONS, *CONVERSIONS, *PRIMITIVES, *FUSED)

ARITY = {
    **dict.fromkeys(UNARY, 1),
    **dict.fromkeys(BINARY, 2),
    **dict.fromkeys(TERNARY, 3),
}


def letters(form: str | Pattern) -> list[str]:
    """Those of a pattern, in the order of the arguments: single numbers come last."""
    found = {form} if isinstance(form, str) else {x for part in form[1:] for x in letters(part)}
    return sorted(found, key=lambda x: (x.isupper(), x))


LOGICAL = ("not", "and", "or", "xor")
"""Of what is not bool, these are operations on bits."""

FLAGS = (*LOGICAL, "gt", "ge", "lt", "le", "eq", "ne", "isnan", "isfinite", "signbit")
"""What returns bool; the machine has 1 and 0 for it."""

SYNONYMS = {
    "true_divide": "div",
    "truediv": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "absolute": "abs",
    "negative": "neg",
    "sgn": "sign",
    "invert": "not",
    "logical_not": "not",
    "logical_and": "and",
    "logical_or": "or",
    "logical_xor": "xor",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "max": "amax",
    "min": "amin",
    "clip": "clamp",
}
REVERSED = {f"r{name}": name for name in ("add", "sub", "mul", "div", "pow")}
REVERSED["rtruediv"] = "div"
COMMUTATIVE = ("add", "mul", "maximum", "minimum", "eq", "ne", "and", "or", "xor")
CASTS = ("to", "type", "float", "double")
FILLS = {"zeros_like": 0.0, "ones_like": 1.0}
POWERS = {0.5: "sqrt", 1: "copy", 2: "square", -0.5: "rsqrt", -1: "reciprocal"}
