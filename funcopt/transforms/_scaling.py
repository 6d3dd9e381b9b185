"""Scaling updates: by a factor, by the learning rate, to their sign, and to zero."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from ..typing import Scalar, Slots


class scale(TensorRule):
    """Multiplies the updates by a factor.

        u = factor g

    Args:
        factor: The factor; a negative one negates the updates.

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
    """Multiplies the updates by minus the learning rate, so that they descend.

        u = -lr g

    Updates keep the sign of the gradient until this stage negates them, or `scale` with a negative
    factor. `lbfgs` and `newton_cg`, which compute whole steps from the loss, need neither.

    A schedule is given the number of updates already made: 0 at the first.

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
    """Replaces every entry by its sign: steepest descent in the infinity norm.

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
    """Replaces the updates by zero, so that the parameters keep their values exactly.

        u = -0.0

    The zero is the negative one: adding it changes nothing, while ``-0.0 + 0.0`` is ``+0.0``.
    """

    elementwise = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return torch.full_like(g, -0.0), slots

    def sign(self) -> int | None:
        return None


class zero_nans(TensorRule):
    """Replaces entries that are NaN by zero; infinite ones stay.

        u = 0 where g is NaN,   u = g elsewhere

    The same as in Optax. What made the entry NaN mostly spoils others too: `skip_if` leaves out the
    whole update.
    """

    elementwise = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return torch.where(g.isnan(), 0.0, g), slots
