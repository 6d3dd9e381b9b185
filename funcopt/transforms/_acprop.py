"""ACProp: AdaBelief whose denominator does not know the gradient that it divides."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, is_unset, mix, sqrt, unset_like, where
from ..typing import Memory, Scalar, Slots
from ._belief import BeliefSlots


class scale_by_acprop(TensorRule):
    """Divides the gradient by the root of the EMA of its earlier squared deviations.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        v = exp_avg_var / (1 - b2^(t-1)), but 1 at the first gradient
        exp_avg_var <- b2 exp_avg_var + (1 - b2) (g - exp_avg)^2 + eps_root
        exp_avg     <- b1 exp_avg + (1 - b1) g
        u = g / (sqrt(v) + eps)

    with `exp_avg` of the step before in the second line. The same as in Optax. The first moment
    only centers the second. The first update has the unit of the gradient, all others have none.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its squared deviation, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        eps_root: Added to `exp_avg_var` in each step, in units of the gradient squared; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or an epsilon is negative.

    References:
        Zhuang et al., "Momentum Centering and Asynchronous Update for Adaptive Gradient Methods",
        NeurIPS 2021. https://arxiv.org/abs/2110.05454
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
        return BeliefSlots(zeros, unset_like(p, self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        before = where(step == 1, 1, step - 1)  # at the first step it is not used
        return {"weights": (1 - b1, 1 - b2), "correction": bias_correction(b2, before)}

    def update_tensor(
        self, g: Tensor, slots: BeliefSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        first = is_unset(slots.exp_avg_var)
        surprise = g - slots.exp_avg
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_var = mix(slots.exp_avg_var, surprise * surprise, s.weights[1]) + s.eps_root
        root = torch.where(first, 1.0, sqrt(slots.exp_avg_var / s.correction))
        return g / (root + s.eps), BeliefSlots(exp_avg, exp_avg_var)
