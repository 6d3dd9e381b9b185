"""Yogi: Adam with a bounded change of the second moment."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class YogiSlots(NamedTuple):
    """The slots of Yogi."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # like p: follows its square, by changes that are no larger than it


class scale_by_yogi(TensorRule):
    """Adam, with a second moment whose change is bounded by the squared gradient.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2), with both slots
    initialized to `initial_accumulator_value`:

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- exp_avg_sq - (1 - b2) sign(exp_avg_sq - g^2) g^2
        u = exp_avg / (1 - b1^t) / (sqrt(exp_avg_sq / (1 - b2^t) + eps_root) + eps)

    as in Optax; so a first gradient of zero gives a small update. u has no unit. Shapes: any.
    Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the first and second moment, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        eps_root: Added inside the root, in units of the gradient squared; not negative.
        initial_accumulator_value: Initial value of both slots; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018, Algorithm 2.
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-3
    eps_root: Scalar = 0.0
    initial_accumulator_value: Scalar = 1e-6
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "eps_root", self.eps_root)
        checks.fixed(self, "initial_accumulator_value", self.initial_accumulator_value)

    def init_tensor(self, p: Tensor) -> YogiSlots:
        begin = torch.zeros_like(p, dtype=self.state_dtype) + self.initial_accumulator_value
        return YogiSlots(begin, begin.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: YogiSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        square = g * g
        exp_avg_sq = slots.exp_avg_sq - s.weights[1] * (slots.exp_avg_sq - square).sign() * square
        root = sqrt(exp_avg_sq / s.corrections[1] + s.eps_root)
        return exp_avg / s.corrections[0] / (root + s.eps), YogiSlots(exp_avg, exp_avg_sq)
