"""RAdam: Adam, rectified by the variance of its adaptive learning rate."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt, where
from ..typing import Memory, Scalar, Slots


class RadamSlots(NamedTuple):
    """The slots of RAdam."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # like p: EMA of its square


class scale_by_radam(TensorRule):
    """Adam, rectified by the variance of its adaptive learning rate, as in torch.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g            m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        rho_inf = 2 / (1 - b2) - 1,   rho = rho_inf - 2 t b2^t / (1 - b2^t)
        r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
        u = r m sqrt(1 - b2^t) / (sqrt(exp_avg_sq) + eps)   if rho > 5,   else   u = m

    While rho is at most 5, in the first steps, u has the unit of the gradient; then it has none.
    rho is computed in float64: in float32 it cancels, and rectification starts too early.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, before the bias correction, in units of the gradient; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.

    References:
        Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020,
        Algorithm 2. https://arxiv.org/abs/1908.03265
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> RadamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return RadamSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        rectified, ratio = rectification(b2, step, 5)
        scale = (ratio * bias_correction(b2, step)) ** 0.5 / bias_correction(b1, step)
        return {
            "weights": (1 - b1, 1 - b2),
            "scale": where(rectified, scale, 0.0),
            "plain": where(rectified, 0.0, 1 / bias_correction(b1, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: RadamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        factor = s.plain + s.scale / (sqrt(exp_avg_sq) + s.eps)
        return exp_avg * factor, RadamSlots(exp_avg, exp_avg_sq)


def rectification(b2: Any, step: Any, least: int) -> tuple[Any, Any]:
    """Whether the variance of RAdam is known, as rho > least, and the square of its r."""
    weight = bias_correction(b2, step)
    longest = 2 / (1 - b2) - 1
    rho = longest - 2 * step * (1 - weight) / weight
    rectified = rho > least
    # Where they are not used, the root must have a derivative, and nothing be divided by 0.
    rho, longest = where(rectified, rho, 6.0), where(longest > least, longest, 6.0)
    return rectified, (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
