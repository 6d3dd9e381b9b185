"""AdaBelief: Adam with the squared deviation of the gradient from its EMA."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class BeliefSlots(NamedTuple):
    """The slots of AdaBelief."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_var: Tensor  # like p: EMA of its squared deviation from exp_avg


class scale_by_belief(TensorRule):
    """Divides the EMA of the gradient by the root of the EMA of its squared deviation.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg     <- b1 exp_avg + (1 - b1) g
        exp_avg_var <- b2 exp_avg_var + (1 - b2) (g - exp_avg)^2 + eps_root
        u = exp_avg / (1 - b1^t) / (sqrt(exp_avg_var / (1 - b2^t)) + eps)

    as in the paper and in Optax: `eps_root` accumulates in the state, to eps_root / (1 - b2). u has
    no unit; it is large where gradients are close to their EMA. Shapes: any. Dtypes: slots in
    `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its squared deviation, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        eps_root: Added to `exp_avg_var` in each step, in units of the gradient squared; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or an epsilon is negative.

    References:
        Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
        Gradients", NeurIPS 2020, Algorithm 2. https://arxiv.org/abs/2010.07468
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-16
    eps_root: Scalar = 1e-16
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_var"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "eps_root", self.eps_root)

    def init_tensor(self, p: Tensor) -> BeliefSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return BeliefSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: BeliefSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        surprise = g - exp_avg
        exp_avg_var = mix(slots.exp_avg_var, surprise * surprise, s.weights[1]) + s.eps_root
        root = sqrt(exp_avg_var / s.corrections[1])
        return exp_avg / s.corrections[0] / (root + s.eps), BeliefSlots(exp_avg, exp_avg_var)
