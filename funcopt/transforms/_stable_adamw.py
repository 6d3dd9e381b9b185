"""StableAdamW: AdamW whose steps shrink where its second moment is out of date."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, count, is_zero, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._block import Squares


class StableAdamwSlots(NamedTuple):
    """The slots of StableAdamW."""

    exp_avg: Tensor  # like p: EMA of the gradient, bias-corrected
    exp_avg_sq: Tensor  # like p: EMA of its square, bias-corrected


class scale_by_stable_adamw(TensorRule):
    """Adam with weight decay, both divided by the RMS of the gradient over its second moment.

    Entry by entry, at step t = 1, 2, ..., for a gradient g, betas (b1, b2), and the RMS over all
    entries of a tensor:

        exp_avg    <- exp_avg + (1 - b1) / (1 - b1^t) (g - exp_avg)
        exp_avg_sq <- exp_avg_sq + (1 - b2) / (1 - b2^t) (g^2 - exp_avg_sq)
        r = rms(g / max(sqrt(exp_avg_sq), eps))
        u = (exp_avg / (sqrt(exp_avg_sq) + eps) + weight_decay p) / max(1, r)

    The slots are m and v of `scale_by_adam`. r is about 1 while v follows the gradients; where
    these grow suddenly it is above, and the step of the tensor is that much shorter, decay
    included. `clip_by_block_rms` after `scale_by_adam` limits u itself instead.

    u has no unit. Shapes: any; on shards the RMS is over all of the tensor. Dtypes: slots in
    `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, and the lower bound of the root that r is
            computed with, in units of the gradient; positive.
        weight_decay: The weight decay, in units of the update per unit of the parameter; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `eps` is not positive, or
            `weight_decay` is negative.
        MissingParamsError: If `update` is not given the parameters, with weight decay.

    References:
        Wortsman et al., "Stable and low-precision training for large-scale vision-language models",
        NeurIPS 2023, Algorithm 2. https://arxiv.org/abs/2304.13013
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.99)
    eps: Scalar = 1e-6
    weight_decay: Scalar = 0.0
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.positive(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    def init_tensor(self, p: Tensor) -> StableAdamwSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return StableAdamwSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        weights = ((1 - b1) / bias_correction(b1, step), (1 - b2) / bias_correction(b2, step))
        return {"weights": weights, "least": self.eps * self.eps}

    def measure_tensor(self, g: Tensor, slots: StableAdamwSlots, p: Tensor, s: Scalars) -> Squares:
        square = g * g
        exp_avg_sq = mix(slots.exp_avg_sq, square, s.weights[1])
        return Squares((square / exp_avg_sq.clamp(min=s.least)).sum(), count(g))

    def conclude(self, s: Scalars, memory: Memory, total: Squares) -> tuple[dict[str, Any], Memory]:
        return {"divisor": total.rms().clamp(min=1.0)}, memory

    def update_tensor(
        self, g: Tensor, slots: StableAdamwSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        u = exp_avg / (sqrt(exp_avg_sq) + s.eps)
        if not is_zero(s.weight_decay):
            u = u + s.weight_decay * p
        return u / s.divisor, StableAdamwSlots(exp_avg, exp_avg_sq)
