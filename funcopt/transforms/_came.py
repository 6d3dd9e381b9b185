"""CAME: Adafactor's scaling, then momentum that is divided by how far it is from its input."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._rows_and_columns import averaged, mean_over


class CameSlots(NamedTuple):
    """The slots of CAME: tensors of fewer than two dimensions have only the first two."""

    exp_avg: Tensor  # like p: EMA of the normalized gradient
    variance: Any  # like p: EMA of the square of every entry; () of a matrix
    row_var: Any  # like p, but of length 1 where averaged: EMA of the mean square of rows; or ()
    col_var: Any  # the same of columns; or ()
    row_res: Any  # like row_var: EMA of the mean square of the residual, by row; or ()
    col_res: Any  # the same of columns; or ()


class scale_by_came(TensorRule):
    """Divides the EMA of Adafactor's update by the root of its squared residual, factored too.

    A tensor with at least two dimensions is a batch of matrices in its last two. At each step, for
    a gradient g, betas (b1, b2, b3), and ``v(rows, cols) = rows cols / mean(rows)``:

        row_var <- b2 row_var + (1 - b2) mean(g^2 + eps, over columns), col_var over rows
        n = g / sqrt(v(row_var, col_var)),   n <- n / max(1, rms(n) / clip_threshold)
        exp_avg <- b1 exp_avg + (1 - b1) n
        r = (n - exp_avg)^2 + eps_residual
        row_res <- b3 row_res + (1 - b3) mean(r, over columns), col_res over rows
        u = exp_avg / sqrt(v(row_res, col_res))

    A tensor of fewer dimensions has the EMA of its g^2 + eps in place of v, and u = exp_avg. There
    is no bias correction, so the first steps of matrices are larger, by 1 / sqrt(1 - b3).

    u has no unit. Memory: one slot like the parameter, and two of rows and columns. Dtypes: slots
    in `state_dtype`, else in that of the parameter; for bfloat16 parameters take `torch.float32`.
    On shards the gradient is gathered, and the slots of rows and columns are whole on every rank.

    Args:
        betas: Decay rates of the EMAs of the normalized gradient, of the square of the gradient and
            of that of the residual, in [0, 1).
        eps: Added to the square of the gradient, in units of that; not negative.
        eps_residual: Added to the square of the residual; not negative.
        clip_threshold: Upper bound of the root mean square of n; positive.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), an epsilon is negative, or
            `clip_threshold` is not positive.
        LeafError: If a parameter is complex.

    References:
        Luo et al., "CAME: Confidence-guided Adaptive Memory Efficient Optimization", ACL 2023,
        Algorithm 2. https://arxiv.org/abs/2307.02047
    """

    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999)
    eps: Scalar = 1e-30
    eps_residual: Scalar = 1e-16
    clip_threshold: Scalar = 1.0
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True
    nonnegative = frozenset({"variance"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas, count=3)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "eps_residual", self.eps_residual)
        checks.positive(self, "clip_threshold", self.clip_threshold)

    def init_tensor(self, p: Tensor) -> CameSlots:
        dtype = self.state_dtype or p.dtype
        zeros = torch.zeros_like(p, dtype=dtype)
        if p.dim() < 2:
            return CameSlots(zeros, zeros.clone(), (), (), (), ())
        each = (averaged(p, dim, dtype) for dim in (-1, -2, -1, -2))
        return CameSlots(zeros, (), *each)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weights": tuple(1 - b for b in self.betas)}

    def update_tensor(
        self, g: Tensor, slots: CameSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        square = g * g + s.eps
        if g.dim() < 2:
            variance = mix(slots.variance, square, s.weights[1])
            n = _clipped(g * variance.rsqrt(), s)
            exp_avg = mix(slots.exp_avg, n, s.weights[0])
            return exp_avg.clone(), CameSlots(exp_avg, variance, (), (), (), ())
        moments = _mixed(slots.row_var, slots.col_var, square, s.weights[1])
        n = _clipped(_divided(g, *moments), s)
        exp_avg = mix(slots.exp_avg, n, s.weights[0])
        residual = (n - exp_avg).square() + s.eps_residual
        residuals = _mixed(slots.row_res, slots.col_res, residual, s.weights[2])
        return _divided(exp_avg, *residuals), CameSlots(exp_avg, (), *moments, *residuals)


def _mixed(row: Tensor, col: Tensor, square: Tensor, weight: Any) -> tuple[Tensor, Tensor]:
    return mix(row, mean_over(square, -1), weight), mix(col, mean_over(square, -2), weight)


def _divided(x: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """One root after another: the product of the moments may underflow."""
    return x * (row / mean_over(row, -2)).rsqrt() * col.rsqrt()


def _clipped(n: Tensor, s: Scalars) -> Tensor:
    rms = sqrt(n.square().sum() / max(n.numel(), 1))
    clipped: Tensor = n / (rms / s.clip_threshold).clamp(min=1.0)
    return clipped
