"""Grams: the magnitude of Adam's update with the sign of the gradient."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class scale_by_grams(TensorRule):
    """Gives Adam's update, entry by entry, the sign of the gradient.

    At step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g            m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2       v = exp_avg_sq / (1 - b2^t)
        u = sign(g) abs(m) / (sqrt(v) + eps)

    So every update is a direction of descent, where momentum may point the other way; `cautious`
    sets such entries to zero instead. Where g is 0, so is u.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.

    References:
        Cao et al., "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024, Algorithm 1.
        https://arxiv.org/abs/2412.17107
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-6
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        root = sqrt(exp_avg_sq / s.corrections[1])
        u = g.sign() * (exp_avg / s.corrections[0]).abs() / (root + s.eps)
        return u, AdamSlots(exp_avg, exp_avg_sq, ())
