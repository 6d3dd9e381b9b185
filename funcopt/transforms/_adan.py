"""Adan: Nesterov momentum by the change of the gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, is_unset, mix, sqrt, unset_like
from ..typing import Memory, Scalar, Slots


class AdanSlots(NamedTuple):
    """The slots of Adan."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_diff: Tensor  # like p: EMA of its change
    exp_avg_sq: Tensor  # like p: EMA of the square of the gradient, extrapolated
    previous_grad: Tensor  # like p: the previous gradient


class scale_by_adan(TensorRule):
    """Adam with the change of the gradient added, to its EMA and below the root.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2, b3), with the change
    d = g - previous_grad, which is 0 at the first gradient:

        exp_avg      <- b1 exp_avg + (1 - b1) g                   m = exp_avg / (1 - b1^t)
        exp_avg_diff <- b2 exp_avg_diff + (1 - b2) d              c = exp_avg_diff / (1 - b2^t)
        exp_avg_sq   <- b3 exp_avg_sq + (1 - b3) (g + b2 d)^2     v = exp_avg_sq / (1 - b3^t)
        previous_grad <- g
        u = (m + b2 c) / (sqrt(v) + eps)

    This is the authors' code. Optax has ``1 - b2`` where this has the factor b2.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient, of its change and of the square, in [0, 1).
            The paper writes 1 minus them.
        eps: Added to the root, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.

    References:
        Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
        IEEE TPAMI 2024, Algorithm 1. https://arxiv.org/abs/2208.06677
    """

    betas: tuple[Scalar, Scalar, Scalar] = (0.98, 0.92, 0.99)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas, count=3)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdanSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdanSlots(zeros, zeros.clone(), zeros.clone(), unset_like(p, self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2, b3 = self.betas
        return {
            "weights": (1 - b1, 1 - b2, 1 - b3),
            "of_mean": 1 / bias_correction(b1, step),
            "of_change": b2 / bias_correction(b2, step),
            "correction": bias_correction(b3, step),
        }

    def update_tensor(
        self, g: Tensor, slots: AdanSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        change = torch.where(is_unset(slots.previous_grad), 0.0, g - slots.previous_grad)
        ahead = g + s.betas[1] * change
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_diff = mix(slots.exp_avg_diff, change, s.weights[1])
        exp_avg_sq = mix(slots.exp_avg_sq, ahead * ahead, s.weights[2])
        u = s.of_mean * exp_avg + s.of_change * exp_avg_diff
        u = u / (sqrt(exp_avg_sq / s.correction) + s.eps)
        return u, AdanSlots(exp_avg, exp_avg_diff, exp_avg_sq, g + 0.0)
