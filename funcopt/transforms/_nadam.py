"""NAdam: Adam with Nesterov momentum, which warms up."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class NadamSlots(NamedTuple):
    """The slots of NAdam."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # like p: EMA of its square


class NadamMemory(NamedTuple):
    """The shared scalars of NAdam."""

    mu_product: Tensor  # (): the product of all momenta so far


class scale_by_nadam(TensorRule):
    """Adam with Nesterov momentum, as in torch.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        mu_t = b1 (1 - 0.96^(t momentum_decay) / 2),   P_t = mu_1 ... mu_t
        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        u = ((1 - mu_t) g / (1 - P_t) + mu_(t+1) exp_avg / (1 - P_(t+1)))
            / (sqrt(exp_avg_sq / (1 - b2^t)) + eps)

    u has no unit. `scale_by_adam(nesterov=True)` is Optax's variant, the limit of a large
    `momentum_decay`. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        momentum_decay: How fast the momentum warms up to b1; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
        https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    momentum_decay: Scalar = 4e-3
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "momentum_decay", self.momentum_decay)

    def init_tensor(self, p: Tensor) -> NadamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return NadamSlots(zeros, zeros.clone())

    def init_memory(self, like: Tensor) -> NadamMemory:
        return NadamMemory(torch.ones((), dtype=torch.float64))

    def prepare(self, step: Any, memory: NadamMemory) -> dict[str, Any]:
        b1, b2 = self.betas
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1))
        product = memory.mu_product * mu
        return {
            "weights": (1 - b1, 1 - b2),
            "of_g": (1 - mu) / (1 - product),
            "of_mean": mu_next / (1 - product * mu_next),
            "correction": bias_correction(b2, step),
            "product": product,
        }

    def conclude(
        self, s: Scalars, memory: NadamMemory, total: Any
    ) -> tuple[dict[str, Any], Memory]:
        return {}, NadamMemory(s.product)

    def update_tensor(
        self, g: Tensor, slots: NadamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        root = sqrt(exp_avg_sq / s.correction) + s.eps
        return (s.of_g * g + s.of_mean * exp_avg) / root, NadamSlots(exp_avg, exp_avg_sq)
