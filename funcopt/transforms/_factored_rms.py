"""Adafactor's scaling: second moments of matrices by row and by column."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix
from ..typing import Memory, Scalar, Slots
from ._rows_and_columns import averaged, mean_over


class FactoredRmsSlots(NamedTuple):
    """The slots: of a matrix those of rows and columns, of other tensors that of all entries."""

    row_var: Any  # like p, but of length 1 where averaged: EMA of the mean square of rows; or ()
    col_var: Any  # the same of columns; or ()
    variance: Any  # like p: EMA of the square of every entry; or ()


class scale_by_factored_rms(TensorRule):
    """Divides the gradient by its root mean square, factored into rows and columns.

    A tensor with at least two dimensions is a batch of matrices in its last two, (n, m). At step
    t = 1, 2, ..., for a gradient g and w = t^beta2_decay, with means over dimensions that stay:

        row_var <- (1 - w) row_var + w mean(g^2, over columns)                 (..., n, 1)
        col_var <- (1 - w) col_var + w mean(g^2, over rows)                    (..., 1, m)
        v = row_var col_var / max(mean(row_var, over rows), eps)               (..., n, m)
        u = g / sqrt(max(v, eps^2))

    A tensor of fewer dimensions has v = variance, the same EMA of its g^2. The results are those of
    torch. With `add_eps`, as in the paper and in Optax, g^2 + eps is averaged instead, and nothing
    is bounded.

    u has no unit, and a root mean square near 1. Memory: n + m entries instead of n m. Dtypes:
    slots in `state_dtype`, else in that of the parameter; for bfloat16 parameters take
    `torch.float32`, as Hugging Face does: once w is small, a bfloat16 EMA no longer changes. On
    shards the gradient is gathered, and the slots of matrices are whole on every rank.

    Args:
        beta2_decay: The power with which the weight of the newest gradient decays; not positive.
        eps: Lower bound of the root mean square, in units of the gradient (with `add_eps`:
            squared); not negative. `None` is the machine epsilon of the dtype of the computation;
            torch takes that of the first parameter, which in bfloat16 is 8e-3.
        add_eps: Add `eps` to the squares, instead of bounding their means.
        min_dim_size_to_factor: Factor the two longest dimensions, as Optax does, and only where
            both are at least so long. `None` is torch's way: the last two, always.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If `beta2_decay` is positive, or another hyperparameter negative.
        LeafError: If a parameter is complex.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018, Algorithm 4. https://arxiv.org/abs/1804.04235
    """

    beta2_decay: Scalar = -0.8
    eps: Scalar | None = None
    add_eps: bool = False
    min_dim_size_to_factor: int | None = None
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True
    nonnegative = frozenset({"variance"})

    def __post_init__(self) -> None:
        checks.not_positive(self, "beta2_decay", self.beta2_decay)
        if self.eps is not None:
            checks.non_negative(self, "eps", self.eps)
        if self.min_dim_size_to_factor is not None:
            checks.whole_number(self, "min_dim_size_to_factor", self.min_dim_size_to_factor)

    def init_tensor(self, p: Tensor) -> FactoredRmsSlots:
        dims, dtype = self._dims(p), self.state_dtype or p.dtype
        if dims is None:
            return FactoredRmsSlots((), (), torch.zeros_like(p, dtype=dtype))
        rows, columns = dims
        of_rows = averaged(p, columns, dtype)
        of_columns = averaged(p, rows, dtype)
        return FactoredRmsSlots(of_rows, of_columns, ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": step**self.beta2_decay}

    def update_tensor(
        self, g: Tensor, slots: FactoredRmsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        eps = torch.finfo(g.dtype).eps if s.eps is None else s.eps
        square = g * g + eps if self.add_eps else g * g
        dims = self._dims(g)
        if dims is None:
            new = FactoredRmsSlots((), (), mix(slots.variance, square, s.weight))
            parts = [new.variance]
        else:
            rows, columns = dims
            row_var = mix(slots.row_var, mean_over(square, columns), s.weight)
            col_var = mix(slots.col_var, mean_over(square, rows), s.weight)
            new = FactoredRmsSlots(row_var, col_var, ())
            mean = mean_over(row_var, rows)
            parts = [row_var / (mean if self.add_eps else mean.clamp(min=eps)), col_var]
        if self.add_eps:  # one root after another: the product may underflow
            for part in parts:
                g = g * part.rsqrt()
            return g, new
        if dims is None:
            return g * parts[0].clamp(min=eps * eps).rsqrt(), new
        # Roots of rows and columns, not of all entries: `tiny` keeps their product finite.
        of_rows, of_columns = (x.clamp(min=torch.finfo(x.dtype).tiny).rsqrt() for x in parts)
        return g * (of_rows * of_columns).clamp(max=_inverse(eps)), new

    def _dims(self, p: Tensor) -> tuple[int, int] | None:
        """The dimensions of rows and of columns; `None` for a tensor that is kept whole."""
        if p.dim() < 2:
            return None
        if self.min_dim_size_to_factor is None:
            return p.dim() - 2, p.dim() - 1
        *_, second, longest = sorted(range(p.dim()), key=p.shape.__getitem__)
        return (second, longest) if p.shape[second] >= self.min_dim_size_to_factor else None


def _inverse(eps: Any) -> Any:
    return 1 / eps if isinstance(eps, Tensor) or eps else math.inf
