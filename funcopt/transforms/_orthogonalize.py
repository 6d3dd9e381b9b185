"""Orthogonalization of matrices by Newton-Schulz iterations."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.newton_schulz import COEFFICIENTS, newton_schulz, triples
from ..typing import Coefficients, Normalization, Ratio, Scalar, Slots

RATIOS = (None, *get_args(Ratio.__value__))


class orthogonalize(TensorRule):
    """Orthogonalizes each matrix by Newton-Schulz iterations.

    For an update G of m rows and n columns:

        X = G / max(safety_factor norm(G), eps)
        X <- a X + (b A + c A A) X,   A = X X^T,   `ns_steps` times
        U = ratio X

    The singular values of X end near 1. With the triple (a, b, c) of Muon, they are between about
    0.7 and 1.2. Sets of triples, one for each iteration, bring small ones there sooner:

        "jordan"           Muon's triple in each
        "quintic"          five that are more even, of modded-nanogpt
        "polar_express"    five of Polar Express, with a safety of 1.02, as nanochat has them
        "polar_express_8"  eight of the paper, with a safety of 1.01, for any number of steps
        "cans"             five with Chebyshev's polynomials: not in bfloat16, whose rounding can
                           bring singular values out of their range, from where they grow
        "aol"              four of Turbo-Muon, for the normalization of this name
        "deepseek_v4"      eight of Muon, and then (2, -1.5, 0.5): ten steps end within 0.001
        "cubic5"           five without c, and so with one product less

    The first line is one of these normalizations, where the norm is Frobenius's:

        "clamp"      G / max(safety_factor norm(G), eps), as in `torch.optim.Muon`
        "add"        G / (safety_factor norm(G) + eps), as in Jordan's code
        "aol"        as "clamp", but each row i, of columns where they are fewer, has a norm of its
                     own: the root of sum_j |A_ij|, with A = G G^T
        "schatten4"  as "clamp", by sqrt(norm(G G^T)), which is nearer the largest singular value

    The ratio is

        "original" (also `None`)     sqrt(max(1, m / n))
        "match_rms_adamw"            0.2 sqrt(max(m, n)), so that the entries are about as large as
                                     those of AdamW, whose learning rates then fit (Moonlight)
        "rms_to_rms"                 sqrt(m / n), as in Scion
        "spectral"                   sqrt(max(m, n))
        "unscaled"                   1

    U has no unit, and depends on the norm of G by `eps` alone: `scale_by_muon` is this behind the
    momentum. With `magnitude` it has the unit of G, and is multiplied by

        "norm"     norm(G), as in NAMO
        "nuclear"  the sum of all entries of G X, about that of the singular values of G: PolarGrad

    Shapes: matrices. Tensors of more dimensions with `dims`: ``"batch"`` takes the last two for
    matrices and those before them for a batch; ``"flatten"`` takes the first for the rows and all
    others together for the columns, as is usual for convolutions. m and n are those of the
    matrices, or with `block_sizes` of the blocks, each of which is a matrix of its own: queries,
    keys and values that share a weight, or heads.

    Dtypes: in `ns_dtype`, bfloat16 as in torch; `None` is that of the computation, float32 or
    float64. Stateless.

    On shards the whole matrix is gathered, on every rank.

    Args:
        ns_coefficients: The triple (a, b, c); or one for each iteration, of which the last is
            repeated where there are fewer, and only the first are taken where there are more; or
            the name of a set.
        eps: Lower bound of the norm in the denominator, or what is added to it, in units of the
            update; not negative.
        ns_steps: The number of iterations, below 100.
        adjust_lr_fn: The name of the ratio.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration. Products of bfloat16 are accumulated in float32, by
            another kernel on x86 processors without instructions for them (AMX, AVX512-BF16), where
            that is faster: there the rounding is not torch's, by the order of these additions. Of
            symmetric products one side is computed on a CPU, from 512 rows on.
        normalization: The name of the normalization.
        safety_factor: A factor of the norm, for iterations that leave their range above 1, as
            "polar_express" does: 1.02 there, with "add"; positive.
        block_sizes: The number of rows of each block, or of all of them; `None` is one block.
        magnitude: The size of G that is kept.
        ns_method: "standard", or "gram", by which two iterations are made at once where the longer
            side is more than 1.5 of the shorter. With ``P = a I + b A + c A A``:

                X <- P_2 P_1 X,   A_1 = X X^T,   A_2 = P_1 A_1 P_1

            The same but for rounding, with fewer products with X, which is longer than A. After two
            iterations A is computed of X again, or errors of small singular values would grow.
            Errors are up to twice those of "standard", which in bfloat16 is too much for
            "polar_express_8" behind "aol" or "schatten4".

    Raises:
        HyperparameterError: If `eps` is negative, `safety_factor` is not positive, a count is not
            a whole number in its range, or a name is unknown.
        LeafError: If a parameter is a vector, has more than two dimensions without `dims`, or its
            rows are not those of the blocks.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
        https://kellerjordan.github.io/posts/muon/. Amsel et al., "The Polar Express", 2025,
        https://arxiv.org/abs/2505.16932. Grishina et al., "Accelerating Newton-Schulz Iteration
        for Orthogonalization via Chebyshev-type Polynomials", 2025,
        https://arxiv.org/abs/2506.10935, for "cans". Boissin et al., "Turbo-Muon", 2025,
        https://arxiv.org/abs/2512.04632, for "aol". Lau et al., "PolarGrad", 2025,
        https://arxiv.org/abs/2505.21799. Zhang et al., "Gram Newton-Schulz", 2026, for "gram",
        https://dao-ailab.github.io/blog/2026/gram-newton-schulz/.
    """

    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315)
    eps: Scalar = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Ratio | None = None
    dims: Literal["batch", "flatten"] | None = None
    ns_dtype: torch.dtype | None = torch.bfloat16
    normalization: Normalization = "clamp"
    safety_factor: Scalar = 1.0
    block_sizes: int | tuple[int, ...] | None = None
    magnitude: Literal["norm", "nuclear"] | None = None
    ns_method: Literal["standard", "gram"] = "standard"
    batched = True

    def __post_init__(self) -> None:
        check_iterations(self)
        checks.choice(self, "magnitude", self.magnitude, (None, "norm", "nuclear"))

    def unfit(self, p: Tensor) -> str | None:
        return no_matrices(p, self.dims) or other_blocks(p, self.dims, self.block_sizes)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return orthogonalized(self, g, s, self.magnitude), slots


def check_iterations(rule: Any) -> None:
    """Checks the fields of `orthogonalize`, which other rules have as well."""
    value = rule.ns_coefficients
    if isinstance(value, str):
        checks.choice(rule, "ns_coefficients", value, COEFFICIENTS)
    elif isinstance(value, (tuple, list)) and value and isinstance(value[0], (tuple, list)):
        for i, triple in enumerate(value):
            checks.coefficients(rule, f"ns_coefficients[{i}]", triple, count=3)
    else:
        checks.coefficients(rule, "ns_coefficients", value, count=3)
    checks.non_negative(rule, "eps", rule.eps)
    checks.whole_number(rule, "ns_steps", rule.ns_steps, most=99)
    checks.choice(rule, "adjust_lr_fn", rule.adjust_lr_fn, RATIOS)
    checks.choice(rule, "dims", rule.dims, (None, "batch", "flatten"))
    checks.choice(rule, "normalization", rule.normalization, get_args(Normalization.__value__))
    checks.positive(rule, "safety_factor", rule.safety_factor)
    checks.choice(rule, "ns_method", rule.ns_method, ("standard", "gram"))
    sizes = rule.block_sizes
    if isinstance(sizes, (tuple, list)):
        for i, size in enumerate(sizes):
            checks.whole_number(rule, f"block_sizes[{i}]", size, least=1)
    elif sizes is not None:
        checks.whole_number(rule, "block_sizes", sizes, least=1)


def no_matrices(p: Tensor, dims: str | None) -> str | None:
    """What keeps a parameter from being a matrix, or several."""
    if p.dim() < 2:
        return (
            "must be a matrix. `muon` gives vectors to AdamW; `partition` and `masked` route "
            "parameters by name and shape."
        )
    if p.dim() > 2 and dims is None:
        return (
            'must be a matrix, or `dims` must say what the matrices are: "batch" if they are '
            'its last two dimensions, "flatten" if all dimensions but the first are the '
            "columns of one."
        )
    return None


def other_blocks(p: Tensor, dims: str | None, sizes: int | Sequence[int] | None) -> str | None:
    """What keeps the rows of a matrix from being those of its blocks."""
    rows = p.shape[0 if dims == "flatten" else -2]
    if sizes is None or (rows % sizes if isinstance(sizes, int) else rows != sum(sizes)) == 0:
        return None
    said = f"a multiple of {sizes}" if isinstance(sizes, int) else f"{sum(sizes)}, their sum,"
    return (
        f"must have {said} rows, since `block_sizes` is {sizes!r}, got {rows}. `partition` gives "
        "such matrices a transformation of their own."
    )


def orthogonalized(rule: Any, x: Tensor, s: Scalars, magnitude: str | None = None) -> Tensor:
    """Each matrix in `x`, or block of its rows, after the iterations, times ratio and magnitude."""
    coefficients = triples(s.ns_coefficients, rule.ns_steps)
    options = (s.eps, rule.ns_dtype, rule.normalization, s.safety_factor, rule.ns_method)

    def one(block: Tensor) -> Tensor:
        u = newton_schulz(block, coefficients, *options)
        ratio = _ratio(rule.adjust_lr_fn, *block.shape[-2:])
        if magnitude is not None:
            return ratio * _magnitude(magnitude, block, u) * u
        return u if ratio == 1.0 else ratio * u

    matrices, sizes = x.flatten(1) if rule.dims == "flatten" else x, rule.block_sizes
    if isinstance(sizes, (tuple, list)) and len(set(sizes)) == 1:
        sizes = sizes[0]
    if sizes is None:
        u = one(matrices)
    elif isinstance(sizes, int):
        *batch, m, n = matrices.shape
        u = one(matrices.reshape(*batch, m // sizes, sizes, n))
    else:
        u = torch.cat([one(block) for block in torch.split(matrices, list(sizes), -2)], -2)
    return u.reshape(x.shape)


def _magnitude(name: str, x: Tensor, u: Tensor) -> Tensor:
    if name == "nuclear":
        return (x * u).sum((-2, -1), keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return norm


def _ratio(name: str | None, m: int, n: int) -> float:
    if name == "unscaled":
        return 1.0
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(m, n))
    if name == "spectral":
        return math.sqrt(max(m, n))
    ratio = m / n if n else 1.0
    return math.sqrt(ratio if name == "rms_to_rms" else max(1.0, ratio))
