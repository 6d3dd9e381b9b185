"""Padam: AMSGrad with a smaller power of the second moment in the denominator."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, root, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class scale_by_padam(TensorRule):
    """Divides the EMA of the gradient by a power of the EMA of its square, between SGD and Adam.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg        <- b1 exp_avg + (1 - b1) g
        exp_avg_sq     <- b2 exp_avg_sq + (1 - b2) g^2
        max_exp_avg_sq <- max(max_exp_avg_sq, exp_avg_sq)
        u = exp_avg sqrt(1 - b2^t) / ((1 - b1^t) (sqrt(max_exp_avg_sq) + eps)^(2 partial))

    ``partial = 1/2`` is AMSGrad, and a `partial` near 0 is SGD with momentum. Without `amsgrad` the
    root is that of `exp_avg_sq`. Both bias corrections are outside of the power and `eps` inside,
    as in the authors' code; in the paper there are none.

    u has the unit of the gradient to the power of 1 - 2 partial, so learning rates are larger than
    those of Adam. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        partial: The power of the second moment, in (0, 1]; 0.25 and 0.125 are the paper's.
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `partial` is outside (0, 1], or
            `eps` is negative.

    References:
        Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep
        Neural Networks", IJCAI 2020, Algorithm 1. https://arxiv.org/abs/1806.06763
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    partial: Scalar = 0.25
    eps: Scalar = 1e-8
    amsgrad: bool = True
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq", "max_exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.positive_fraction(self, "partial", self.partial)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), zeros.clone() if self.amsgrad else ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "correction": root(bias_correction(b2, step)) / bias_correction(b1, step),
            "power": 2 * self.partial,
        }

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        greatest = slots.max_exp_avg_sq
        if self.amsgrad:
            greatest = torch.maximum(greatest, exp_avg_sq)
        root_of_v = sqrt(greatest if self.amsgrad else exp_avg_sq) + s.eps
        u = s.correction * exp_avg / torch.pow(root_of_v, s.power)
        return u, AdamSlots(exp_avg, exp_avg_sq, greatest)
