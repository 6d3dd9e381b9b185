"""Ano: the magnitude of the gradient with the sign of its momentum."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class scale_by_ano(TensorRule):
    """Gives the normalized gradient, entry by entry, the sign of its momentum.

    At step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) sign(g^2 - exp_avg_sq) g^2
        u = sign(exp_avg) abs(g) / (sqrt(exp_avg_sq / (1 - b2^t)) + eps)

    So noise changes the size of an update, which is that of the gradient at once, and less its
    direction, which is that of the momentum; `scale_by_grams` does it the other way round. The
    second moment moves by at most g^2, as in Yogi.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMA of the gradient, in [0, 1), and of its square, in [0.5, 1): so
            that it stays positive.
        eps: Added outside the root, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is out of range, or `eps` is negative.

    References:
        Kegreisz, "Ano: Faster is Better in Noisy Landscape", 2025.
        https://arxiv.org/abs/2508.18258. The results are those of `pytorch_optimizer`.
    """

    betas: tuple[Scalar, Scalar] = (0.92, 0.99)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.at_least(self, "betas[1]", self.betas[1], 0.5)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"weights": (1 - b1, 1 - b2), "correction": bias_correction(b2, step)}

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg, square = mix(slots.exp_avg, g, s.weights[0]), g * g
        step = (square - slots.exp_avg_sq).sign() * square
        exp_avg_sq = mix(slots.exp_avg_sq, step, s.weights[1])
        u = exp_avg.sign() * g.abs() / (sqrt(exp_avg_sq / s.correction) + s.eps)
        return u, AdamSlots(exp_avg, exp_avg_sq, ())
