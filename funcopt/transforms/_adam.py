"""Adam: first and second moments of the gradient, bias-corrected."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, is_zero, mix, sqrt
from ..typing import Memory, Scalar, Slots


class AdamSlots(NamedTuple):
    """The slots of Adam."""

    exp_avg: Any  # like p: EMA of the gradient; () without first_moment
    exp_avg_sq: Tensor  # like p: EMA of its square
    max_exp_avg_sq: Any  # like p: maximum of exp_avg_sq so far; () without amsgrad


class scale_by_adam(TensorRule):
    """Divides the EMA of the gradient by the root of the EMA of its square, both bias-corrected.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g            m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2       v = exp_avg_sq / (1 - b2^t)
        u = m / (sqrt(v + eps_root) + eps)

    With `amsgrad`, v is that of the maximum of `exp_avg_sq` so far, as in torch. With `nesterov`,
    ``m = b1 exp_avg / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)``, as in Optax. Without
    `first_moment`, m = g, as for b1 = 0, and no `exp_avg` is kept.

    u has no unit and stays near sign(g) while gradients are steady, so the learning rate alone sets
    the size of a step.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter. In bfloat16,
    `exp_avg_sq` keeps its value at ``b2 = 0.999``: store it in `torch.float32`.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1); they average
            over about 1 / (1 - b) steps.
        eps: Added outside the root, in units of the gradient; not negative. It bounds the step
            where gradients vanish.
        eps_root: Added inside the root, in units of the gradient squared; not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        nesterov: Use Nesterov momentum.
        first_moment: Keep an EMA of the gradient. Without it, ``betas[0]`` has to be 0; a tensor
            or a schedule there is not checked, and has no effect.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or an epsilon is negative; if
            ``betas[0]`` is not 0 without `first_moment`.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1.
        https://arxiv.org/abs/1412.6980. Reddi et al., "On the Convergence of Adam and Beyond",
        ICLR 2018, for amsgrad. Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    eps_root: Scalar = 0.0
    amsgrad: bool = False
    nesterov: bool = False
    first_moment: bool = True
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq", "max_exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        if not self.first_moment:
            checks.zero(self, "betas[0]", self.betas[0], "without `first_moment`")
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "eps_root", self.eps_root)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(
            zeros.clone() if self.first_moment else (),
            zeros,
            zeros.clone() if self.amsgrad else (),
        )

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        now = bias_correction(b1, step)
        if self.nesterov:
            of_mean, of_g = b1 / bias_correction(b1, step + 1), (1 - b1) / now
        else:
            of_mean, of_g = 1 / now, 0.0
        return {
            "weights": (1 - b1, 1 - b2),
            "of_mean": of_mean,
            "of_g": of_g,
            "correction": bias_correction(b2, step),
        }

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0]) if self.first_moment else ()
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        greatest = slots.max_exp_avg_sq
        if self.amsgrad:
            greatest = torch.maximum(greatest, exp_avg_sq)
        v = (greatest if self.amsgrad else exp_avg_sq) / s.correction
        if not is_zero(s.eps_root):
            v = v + s.eps_root
        m = s.of_mean * exp_avg if self.first_moment else g
        if self.first_moment and self.nesterov:
            m = m + s.of_g * g
        return m / (sqrt(v) + s.eps), AdamSlots(exp_avg, exp_avg_sq, greatest)
