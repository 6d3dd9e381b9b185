"""Multiplying updates by a number, and taking their sign."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from ..typing import Scalar, Slots


class scale(TensorRule):
    """Multiplies the updates by a number.

        u = factor g

    Args:
        factor: The number; negative to turn uphill into downhill.

    Raises:
        HyperparameterError: If `factor` is not a number.
    """

    factor: Scalar
    elementwise = True

    def __post_init__(self) -> None:
        checks.number(self, "factor", self.factor)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.factor, slots

    def sign(self) -> int | None:
        if isinstance(self.factor, Tensor) or callable(self.factor):
            return None
        return -1 if self.factor < 0 else 1


class scale_by_learning_rate(TensorRule):
    """Multiplies the updates by minus the learning rate, so that they point downhill.

        u = -lr g

    Besides `scale` with a negative factor, only stages that find whole steps with the loss turn the
    sign themselves: `lbfgs` and `newton_cg` want none after them.

    A schedule sees the number of updates already made: 0 at the first.

    Args:
        lr: The learning rate, in units of the parameter per unit of the update; not negative.
        flip_sign: Whether to multiply by ``-lr``, to descend, or by ``lr``.

    Raises:
        HyperparameterError: If `lr` is negative.
    """

    lr: Scalar
    flip_sign: bool = True
    elementwise = True
    metrics = ("lr",)

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)

    def prepare(self, step: Any, memory: Any) -> dict[str, Any]:
        return {"factor": -self.lr if self.flip_sign else self.lr}

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.factor, slots

    def sign(self) -> int | None:
        return -1 if self.flip_sign else 1


class scale_by_sign(TensorRule):
    """Keeps only the sign of every entry: the steepest descent in the maximum norm.

        u = sign(g)

    u is -1, 0 or 1 and has no unit.

    References:
        Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018.
        https://arxiv.org/abs/1802.04434
    """

    elementwise = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return torch.where(g.isnan(), g, g.sign()), slots  # torch's sign of NaN is 0


class set_to_zero(TensorRule):
    """Replaces the updates by zero, so that the parameters stand still, bit by bit.

        u = -0.0

    The zero is the negative one: to add it changes nothing, while ``-0.0 + 0.0`` is ``+0.0``.
    """

    elementwise = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return torch.full_like(g, -0.0), slots

    def sign(self) -> int | None:
        return None
