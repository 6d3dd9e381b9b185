"""Adamax: Adam with the infinity norm."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix
from ..typing import Memory, Scalar, Slots


class AdamaxSlots(NamedTuple):
    """The slots of Adamax."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_inf: Tensor  # like p: decayed maximum of its absolute value


class scale_by_adamax(TensorRule):
    """Divides the EMA of the gradient by the decayed maximum of its absolute value.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg <- b1 exp_avg + (1 - b1) g
        exp_inf <- max(b2 exp_inf, |g| + eps)
        u = exp_avg / (1 - b1^t) / exp_inf

    u has no unit and is at most about 1. Shapes: any. Dtypes: slots in `state_dtype`, else in that
    of the parameter.

    Args:
        betas: Decay rates of the EMA of the gradient and of the maximum, in [0, 1).
        eps: Added to the absolute value of the gradient, in its units; positive where a gradient
            may be 0.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 2.
        https://arxiv.org/abs/1412.6980
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_inf"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamaxSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamaxSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"weight": 1 - b1, "decay": b2, "correction": bias_correction(b1, step)}

    def update_tensor(
        self, g: Tensor, slots: AdamaxSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weight)
        exp_inf = torch.maximum(s.decay * slots.exp_inf, g.abs() + s.eps)
        return exp_avg / s.correction / exp_inf, AdamaxSlots(exp_avg, exp_inf)
