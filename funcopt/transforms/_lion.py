"""Lion: the sign of an interpolation between momentum and gradient."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix
from ..typing import Memory, Scalar, Slots


class LionSlots(NamedTuple):
    """The slots of Lion."""

    exp_avg: Tensor  # like p: EMA of the gradient


class scale_by_lion(TensorRule):
    """Replaces the gradient by the sign of an interpolation between its EMA and itself.

    Entry by entry, for a gradient g and betas (b1, b2):

        u = sign(b1 exp_avg + (1 - b1) g)
        exp_avg <- b2 exp_avg + (1 - b2) g

    u is -1, 0 or 1 and has no unit: learning rates are three to ten times smaller than for Adam,
    and weight decay as much greater. Shapes: any. Dtypes: `exp_avg` in `state_dtype`, else in that
    of the parameter.

    Args:
        betas: Decay rates of the interpolation and of the EMA of the gradient, in [0, 1).
        state_dtype: Storage dtype of the EMA.

    Raises:
        HyperparameterError: If one of them is outside [0, 1).

    References:
        Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, Algorithm 2.
        https://arxiv.org/abs/2302.06675
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.99)
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)

    def init_tensor(self, p: Tensor) -> LionSlots:
        return LionSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"weights": (1 - b1, 1 - b2)}

    def update_tensor(
        self, g: Tensor, slots: LionSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        ahead = mix(slots.exp_avg, g, s.weights[0])
        return ahead.sign(), LionSlots(mix(slots.exp_avg, g, s.weights[1]))
