"""MARS: variance reduction by the change of the gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import shortening, sqrt
from ..typing import Memory, Scalar, Slots


class MarsSlots(NamedTuple):
    """The slots of `add_mars_correction`."""

    last_grad: Tensor  # like p: the previous gradient


class add_mars_correction(TensorRule):
    """Adds to the gradient a multiple of its change, and clips the norm of the result.

        c = g + gamma momentum / (1 - momentum) (g - last_grad),   last_grad <- g
        u = c min(1, max_norm / |c|)

    The norm is that of one tensor, on all of its ranks. At the first update `last_grad` is zero, as
    in the official code. In front of `scale_by_adam` it makes MARS-AdamW, which is `mars`, in front
    of `scale_by_lion` MARS-Lion. This is the approximation with one gradient per batch, the default
    of the authors' code; the exact method evaluates each batch twice.

    u is in units of the gradient. Shapes: any. Dtypes: last_grad in `state_dtype`, else in that of
    the parameter.

    Args:
        momentum: The decay rate of the EMA that follows, its first beta, in [0, 1).
        gamma: Weight of the variance reduction; not negative.
        max_norm: Upper bound of the norm of one tensor's update; positive.
        state_dtype: Storage dtype of the previous gradient.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large Models",
        2024. https://arxiv.org/abs/2411.10438
    """

    momentum: Scalar = 0.95
    gamma: Scalar = 0.025
    max_norm: Scalar = 1.0
    state_dtype: torch.dtype | None = None
    elementwise = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        checks.non_negative(self, "gamma", self.gamma)
        checks.positive(self, "max_norm", self.max_norm)

    def init_tensor(self, p: Tensor) -> MarsSlots:
        return MarsSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"share": self.gamma * self.momentum / (1 - self.momentum)}

    def measure_tensor(self, g: Tensor, slots: MarsSlots, p: Tensor, s: Scalars) -> Tensor:
        return _corrected(g, slots, s).square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Tensor) -> tuple[dict[str, Any], Memory]:
        return {"factor": shortening(sqrt(total), s.max_norm)}, memory

    def update_tensor(
        self, g: Tensor, slots: MarsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        return _corrected(g, slots, s) * s.factor, MarsSlots(g.clone())


def _corrected(g: Tensor, slots: MarsSlots, s: Scalars) -> Tensor:
    corrected: Tensor = g + s.share * (g - slots.last_grad)
    return corrected
