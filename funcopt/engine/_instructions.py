"""The instructions of the machine, and the functions of torch that they stand for."""

import torch

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
CONVERSIONS = tuple(f"{verb}_{x}" for verb in ("load", "store", "round") for x in NARROW.values())
CODES = (*UNARY, *BINARY, *TERNARY, *REDUCTIONS, *CONVERSIONS)

ARITY = {
    **dict.fromkeys(UNARY, 1),
    **dict.fromkeys(BINARY, 2),
    **dict.fromkeys(TERNARY, 3),
}
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
