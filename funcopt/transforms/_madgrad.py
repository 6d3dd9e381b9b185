"""MADGRAD: dual averaging with momentum, adapted by a cube root."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import exact
from ..typing import Memory, Scalar, Slots


class MadgradSlots(NamedTuple):
    """The slots of MADGRAD."""

    grad_sum_sq: Tensor  # like p: weighted sum of the squared gradients
    s: Tensor  # like p: weighted sum of the gradients
    x0: Tensor  # like p: the initial parameters


class scale_by_madgrad(TensorRule):
    """Goes from the initial parameters along the sum of all gradients, over a cube root.

    Entry by entry, at step t = 1, 2, ..., for a gradient g:

        w = (lr + eps) sqrt(t)
        grad_sum_sq <- grad_sum_sq + w g^2
        s           <- s + w g
        z = x0 - s / (grad_sum_sq^(1/3) + eps)
        u = (1 - momentum) (p - z)

    u is the whole step, in units of the parameter: it only has to be negated, as in `madgrad`.
    The same as in Optax and in the authors' code. Decoupled weight decay does not fit: what it
    takes away comes back with x0.

    Shapes: any. Dtypes: the sums in `state_dtype`, else in that of the parameter, which x0 always
    has, a copy of the initial parameters.

    Args:
        lr: Learning rate; not negative. It is often larger than that of Adam.
        momentum: The weight of p in the next parameters, in [0, 1).
        eps: Added to the cube root and to `lr`; not negative.
        state_dtype: Storage dtype of the sums.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), or another hyperparameter is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Defazio and Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged
        Gradient Method for Stochastic Optimization", JMLR 2022. https://arxiv.org/abs/2101.11075
    """

    lr: Scalar = 1e-2
    momentum: Scalar = 0.9
    eps: Scalar = 1e-6
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"grad_sum_sq"})
    needs_params = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.in_unit_interval(self, "momentum", self.momentum)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> MadgradSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return MadgradSlots(zeros, zeros.clone(), p.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"w": (self.lr + self.eps) * exact(step) ** 0.5, "share": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: MadgradSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        grad_sum_sq = slots.grad_sum_sq + s.w * (g * g)
        total = slots.s + s.w * g
        at_zero = grad_sum_sq == 0  # where the slope of the cube root is infinite, and s is 0
        root = torch.where(at_zero, 1.0, grad_sum_sq).pow(1 / 3)
        moved = torch.where(at_zero, 0.0, total / (root + s.eps))
        return s.share * (p - slots.x0 + moved), MadgradSlots(grad_sum_sq, total, slots.x0)
