"""Simplified AdEMAMix: a sum of gradients and the newest one, over the root of the squares."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class SimplifiedAdemamixSlots(NamedTuple):
    """The slots of simplified AdEMAMix."""

    momentum_buffer: Tensor  # like p: decaying sum of the gradients
    exp_avg_sq: Tensor  # like p: EMA of the squared gradient


class scale_by_simplified_ademamix(TensorRule):
    """Divides a decaying sum of gradients, plus the newest, by the root of the EMA of the squares.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        momentum_buffer <- b1 momentum_buffer + g
        exp_avg_sq      <- b2 exp_avg_sq + (1 - b2) g^2      v = exp_avg_sq / (1 - b2^t)
        u = (momentum_buffer + alpha g) / (sqrt(v) + eps)

    One slot of gradients does what two do in `scale_by_ademamix`: `alpha` weighs the newest. The
    same as in Optax. u has no unit; for steady gradients it is near sign(g) / (1 - b1), so the
    learning rate is that much smaller than Adam's.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the sum of the gradients and of the EMA of the square, in [0, 1).
        alpha: Weight of the newest gradient beside the sum; not negative.
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Morwani et al., "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD
        Variants", 2025. https://arxiv.org/abs/2502.02431
    """

    betas: tuple[Scalar, Scalar] = (0.99, 0.95)
    alpha: Scalar = 0.0
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "alpha", self.alpha)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> SimplifiedAdemamixSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return SimplifiedAdemamixSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"b1": b1, "weight": 1 - b2, "correction": bias_correction(b2, step)}

    def update_tensor(
        self, g: Tensor, slots: SimplifiedAdemamixSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        momentum_buffer = s.b1 * slots.momentum_buffer + g
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weight)
        u = (momentum_buffer + s.alpha * g) / (sqrt(exp_avg_sq / s.correction) + s.eps)
        return u, SimplifiedAdemamixSlots(momentum_buffer, exp_avg_sq)
