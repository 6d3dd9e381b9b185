"""Adadelta: gradients scaled by the root mean squares of past updates and gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, sqrt
from ..typing import Memory, Scalar, Slots


class AdadeltaSlots(NamedTuple):
    """The slots of Adadelta."""

    square_avg: Tensor  # like p: EMA of the squared gradient
    acc_delta: Tensor  # like p: EMA of the squared update


class scale_by_adadelta(TensorRule):
    """Scales the gradient by the ratio of two root mean squares, of updates and of gradients.

    Entry by entry:

        square_avg <- rho square_avg + (1 - rho) g^2
        u = g sqrt(acc_delta + eps) / sqrt(square_avg + eps)
        acc_delta <- rho acc_delta + (1 - rho) u^2

    u has the unit of the parameter, so the learning rate is a plain factor, 1 by default. Shapes:
    any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        rho: Decay rate of both EMAs, in [0, 1).
        eps: Added inside both roots; positive, since with 0 all updates are 0: `acc_delta`
            starts at 0.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If `rho` is outside [0, 1), or `eps` is negative.

    References:
        Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, Algorithm 1.
        https://arxiv.org/abs/1212.5701
    """

    rho: Scalar = 0.9
    eps: Scalar = 1e-6
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"square_avg", "acc_delta"})

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "rho", self.rho)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdadeltaSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdadeltaSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.rho}

    def update_tensor(
        self, g: Tensor, slots: AdadeltaSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        square_avg = mix(slots.square_avg, g * g, s.weight)
        u = g * sqrt(slots.acc_delta + s.eps) / sqrt(square_avg + s.eps)
        return u, AdadeltaSlots(square_avg, mix(slots.acc_delta, u * u, s.weight))
