"""NAMO: a momentum, divided by the root of the mean squared norm of the gradient."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, power, sqrt
from ..typing import Memory, Scalar, Slots
from ._orthogonalize import no_matrices


class NamoSlots(NamedTuple):
    """The slots of NAMO."""

    momentum_buffer: Tensor  # like p: EMA of the gradient
    norm_sq: Tensor  # (..., 1, 1): EMA of the squared norm of each matrix


class scale_by_namo(TensorRule):
    """Divides the momentum of each matrix by the root of the mean squared norm of its gradients.

    For a gradient G, with t = 1 in the first update:

        momentum_buffer <- b1 momentum_buffer + (1 - b1) G
        norm_sq         <- b2 norm_sq + (1 - b2) norm(G)^2
        M = (1 - b1) G + b1 momentum_buffer,   or without nesterov   momentum_buffer
        U = sqrt(1 - b2^t) / (1 - b1^t)  M / (sqrt(norm_sq) + moment_eps)

    The norm is Frobenius's: this is Adam with one second moment for a matrix. U has no unit, and
    a norm below 1 where gradients are noisy; ``orthogonalize(magnitude="norm")`` behind it, which
    keeps that norm as its size, makes NAMO, as in `namo`.

    Shapes and `dims` as in `orthogonalize`. Dtypes: both slots in `state_dtype`, else in that of
    the parameter. On shards the whole matrix is gathered, on every rank.

    Args:
        betas: Decay rates of the two EMAs, in [0, 1).
        moment_eps: Added to the root, in units of the gradient's norm; not negative.
        nesterov: Use Nesterov momentum.
        correct_bias: Apply the bias correction, the factor in front of M.
        dims: What the matrices of a tensor of more than two dimensions are.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `moment_eps` is negative.
        LeafError: If a parameter is a vector, or has more than two dimensions without `dims`.

    References:
        Zhang et al., "Adam Improves Muon: Adaptive Moment Estimation with Orthogonalized Momentum",
        2026. https://arxiv.org/abs/2602.17080
    """

    betas: tuple[Scalar, Scalar] = (0.95, 0.99)
    moment_eps: Scalar = 1e-8
    nesterov: bool = True
    correct_bias: bool = True
    dims: Literal["batch", "flatten"] | None = None
    state_dtype: torch.dtype | None = None
    batched = True
    nonnegative = frozenset({"norm_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "moment_eps", self.moment_eps)
        checks.choice(self, "dims", self.dims, (None, "batch", "flatten"))

    def unfit(self, p: Tensor) -> str | None:
        return no_matrices(p, self.dims)

    def init_tensor(self, p: Tensor) -> NamoSlots:
        shape = [1] * p.dim() if self.dims == "flatten" else [*p.shape[:-2], 1, 1]
        norm_sq = torch.zeros(shape, dtype=self.state_dtype or p.dtype, device=p.device)
        return NamoSlots(torch.zeros_like(p, dtype=self.state_dtype), norm_sq)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        factor = 1.0
        if self.correct_bias:
            factor = power(bias_correction(b2, step), 0.5) / bias_correction(b1, step)
        return {"weights": (1 - b1, 1 - b2), "factor": factor}

    def update_tensor(
        self, g: Tensor, slots: NamoSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean = mix(slots.momentum_buffer, g, s.weights[0])
        dims = None if self.dims == "flatten" else (-2, -1)
        norm = torch.linalg.vector_norm(g, dim=dims, keepdim=True)
        norm_sq = mix(slots.norm_sq, norm * norm, s.weights[1])
        x = mix(g, mean, s.betas[0]) if self.nesterov else mean
        return s.factor / (sqrt(norm_sq) + s.moment_eps) * x, NamoSlots(mean, norm_sq)
