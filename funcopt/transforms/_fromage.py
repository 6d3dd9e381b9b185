"""Fromage's step: relative to the parameter, which shrinks by as much as it may grow."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import exact
from ..typing import Memory, Scalar, Slots


class shrink_by_learning_rate(TensorRule):
    """Multiplies the update by `lr`, and divides the parameter after it by ``sqrt(1 + lr^2)``.

    For an update g and a parameter p:

        c = 1 / sqrt(1 + lr^2)
        u = p - c (p - lr g) = c lr g + (1 - c) p

    Behind `scale_by_trust_ratio`, where g is as long as p, p keeps its norm where both are
    perpendicular, and grows nowhere by more: this is `fromage`. `scale(-1.0)` negates u. Shapes:
    any.

    Args:
        lr: Learning rate: the relative length of the step; not negative.

    Raises:
        HyperparameterError: If `lr` is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Bernstein et al., "On the distance between two neural networks and the stability of
        learning", NeurIPS 2020, Algorithm 1. https://arxiv.org/abs/2002.03432
    """

    lr: Scalar = 1e-2
    elementwise = True
    needs_params = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        c = (1 + exact(self.lr) ** 2) ** -0.5
        return {"of_g": c * self.lr, "of_p": 1 - c}

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return s.of_g * g + s.of_p * p, slots
