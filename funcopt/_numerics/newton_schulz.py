"""Newton-Schulz iterations: matrices, or batches of them, with singular values pushed towards 1."""

import platform
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from .products import add_product, symmetric
from .scalars import is_zero, sqrt

_JORDAN = (3.4445, -4.7750, 2.0315)
_HALLEY = (2.0, -1.5, 0.5)
_EXACT_EXPRESS = (  # Amsel et al., 2025: singular values from 1e-3 on, before a safety of 1.01
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)

COEFFICIENTS: Mapping[str, tuple[tuple[float, float, float], ...]] = MappingProxyType(
    {
        "jordan": (_JORDAN,),
        "quintic": (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ),
        "polar_express": (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        "polar_express_8": (
            *((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _EXACT_EXPRESS),
            (1.875, -1.25, 0.375),
        ),
        "cans": (
            (8.4703, -25.1081, 18.6293),
            (4.1828, -3.1087, 0.5806),
            (3.9619, -2.9541, 0.5630),
            (3.2866, -2.4647, 0.5074),
            (2.2737, -1.6447, 0.4162),
        ),
        "aol": (
            (4.0098, -7.0585, 2.4635),
            (3.4585, -5.5479, 2.5959),
            (2.7573, -3.2939, 1.4254),
            (2.7215, -3.0494, 1.3169),
        ),
        "deepseek_v4": (*(_JORDAN for _ in range(8)), _HALLEY),
        "cubic5": (
            (3.3656576, -3.3420992, 0.0),
            (2.5744352, -1.4957376, 0.0),
            (2.5368962, -1.4312570, 0.0),
            (2.4418906, -1.2764040, 0.0),
            (2.2230472, -0.9630650, 0.0),
        ),
    }
)
"""The triples (a, b, c) of the iterations by the name of the set; the last one is repeated."""


def triples(coefficients: Any, steps: int) -> list[Any]:
    """The triple of each iteration, of one, of a tuple of them, or of the name of a set.

    Where there are more than iterations, the first are taken; where fewer, the last is repeated.
    """
    each = COEFFICIENTS[coefficients] if isinstance(coefficients, str) else coefficients
    if not isinstance(each[0], (tuple, list)):
        each = (each,)
    return [each[min(i, len(each) - 1)] for i in range(steps)]


def newton_schulz(
    x: Tensor,
    coefficients: Sequence[Any],
    eps: Any,
    dtype: torch.dtype | None,
    normalization: str = "clamp",
    safety_factor: Any = 1.0,
    method: str = "standard",
) -> Tensor:
    """`x` with its singular values pushed towards 1, by an iteration for each triple, in `dtype`.

    From ``X / max(safety_factor norm(X), eps)``, or another normalization, with (a, b, c):

        X <- a X + (b A + c A A) X,   A = X X^T

    By the method "gram", the factors of X of two iterations are multiplied first, where X is long
    enough for that to be less work. The result has the dtype of `x`; without a `dtype`, it is
    computed in that.
    """
    tall = x.shape[-2] > x.shape[-1]
    wide = x.flatten(0, -3) if x.dim() > 3 else x
    rounded = _rounding(x.dtype if dtype is None else dtype, x.device)
    wide = rounded(wide.mT if tall else wide)
    gram = rounded(symmetric(wide, wide.mT)) if normalization in ("aol", "schatten4") else None
    norm = rounded(safety_factor * _norm(wide, gram, normalization))
    norm = norm + eps if normalization == "add" else norm.clamp(min=eps)
    wide = rounded(wide / norm)
    if gram is not None:  # that of the quotient, without another product
        gram = rounded(gram / norm / norm.mT)
    at_once = 2 if method == "gram" and 2 * wide.shape[-1] > 3 * wide.shape[-2] else 1
    for k in range(0, len(coefficients), at_once):
        (a, b, c), *more = coefficients[k : k + at_once]
        gram = rounded(symmetric(wide, wide.mT)) if gram is None else gram
        inner = rounded(_inner(gram, b, c))
        if more:
            wide = rounded(_twice(gram, a, inner, more[0], rounded) @ wide)
        else:
            wide = rounded(add_product(wide, a, inner, wide))
        gram = None
    found = wide.mT if tall else wide
    return found.to(x.dtype, memory_format=torch.contiguous_format).reshape(x.shape)


def _inner(gram: Tensor, b: Any, c: Any) -> Tensor:
    """``b A + c A A``, of a symmetric A."""
    return b * gram if is_zero(c) else symmetric(gram, gram, gram, b, c)


def _twice(
    gram: Tensor, a: Any, inner: Tensor, after: Any, rounded: Callable[[Tensor], Tensor]
) -> Tensor:
    """What two iterations multiply an X by whose Gram matrix is A, ``(a' I + inner') P``.

    The first multiplies it by ``P = a I + inner``, so A becomes ``P A P``: of P as it is rounded,
    or singular values near 1 would leave the range of the second. All of these are polynomials of
    A, and so are symmetric.
    """
    first = rounded(inner + a * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
    gram = rounded(symmetric(first, rounded(symmetric(gram, first))))
    a, b, c = after
    return rounded(symmetric(rounded(_inner(gram, b, c)), first, first, a))


def _norm(x: Tensor, gram: Tensor | None, normalization: str) -> Tensor:
    """(..., 1, 1) what bounds the singular values of a matrix; "aol": (..., m, 1), row by row."""
    norm: Tensor
    if normalization == "aol" and gram is not None:
        norm = sqrt(gram.abs().sum(-1, keepdim=True))
    elif gram is not None:
        norm = sqrt(torch.linalg.vector_norm(gram, dim=(-2, -1), keepdim=True))
    else:
        norm = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return norm


def _rounding(dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What rounds a tensor to `dtype`.

    Products of bfloat16 are added up in float32 and then rounded. A processor without instructions
    for them is nearly twice as fast, or more, at the same in float32.
    """
    if dtype is torch.bfloat16 and device.type == "cpu" and not HAS_BFLOAT16_PRODUCTS:
        return lambda x: x.to(dtype).to(torch.float32)
    return lambda x: x.to(dtype)


HAS_BFLOAT16_PRODUCTS = (
    platform.machine() not in ("x86_64", "AMD64")
    or torch.cpu._is_amx_tile_supported()
    or torch.cpu._is_avx512_bf16_supported()
)
