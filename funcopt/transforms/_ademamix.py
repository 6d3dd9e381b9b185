"""AdEMAMix: Adam with a second, slower EMA of the gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class AdemamixSlots(NamedTuple):
    """The slots of AdEMAMix."""

    exp_avg_fast: Tensor  # like p: EMA of the gradient
    exp_avg_slow: Tensor  # like p: EMA of the gradient, over many more steps
    exp_avg_sq: Tensor  # like p: EMA of its square


class scale_by_ademamix(TensorRule):
    """Adds to Adam's EMA of the gradient a multiple of a slow one.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2, b3):

        exp_avg_fast <- b1 exp_avg_fast + (1 - b1) g      m = exp_avg_fast / (1 - b1^t)
        exp_avg_slow <- b3 exp_avg_slow + (1 - b3) g
        exp_avg_sq   <- b2 exp_avg_sq + (1 - b2) g^2      v = exp_avg_sq / (1 - b2^t)
        u = (m + alpha exp_avg_slow) / (sqrt(v) + eps)

    The slow EMA has no bias correction: at ``b3 = 0.9999`` it fills within ten thousand steps. Long
    trainings warm up `alpha` and b3, by schedules: `linear_schedule` and `half_life_schedule`, as
    `ademamix` does.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter. In
    bfloat16, neither `exp_avg_slow` nor `exp_avg_sq` can change by so little: store them in
    `torch.float32`.

    Args:
        betas: Decay rates of the fast EMA of the gradient, of the EMA of its square, and of the
            slow EMA of the gradient, in [0, 1).
        alpha: Weight of the slow EMA; not negative.
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Pagliardini et al., "The AdEMAMix Optimizer: Better, Faster, Older", ICLR 2025, Algorithm 1.
        https://arxiv.org/abs/2409.03137
    """

    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999)
    alpha: Scalar = 2.0
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas, count=3)
        checks.non_negative(self, "alpha", self.alpha)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdemamixSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdemamixSlots(zeros, zeros.clone(), zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2, b3 = self.betas
        return {
            "weights": (1 - b1, 1 - b2, 1 - b3),
            "of_fast": 1 / bias_correction(b1, step),
            "correction": bias_correction(b2, step),
        }

    def update_tensor(
        self, g: Tensor, slots: AdemamixSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        fast = mix(slots.exp_avg_fast, g, s.weights[0])
        slow = mix(slots.exp_avg_slow, g, s.weights[2])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        u = (s.of_fast * fast + s.alpha * slow) / (sqrt(exp_avg_sq / s.correction) + s.eps)
        return u, AdemamixSlots(fast, slow, exp_avg_sq)
