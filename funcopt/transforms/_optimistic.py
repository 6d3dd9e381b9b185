"""Optimistic gradients: the next gradient is foretold by the last change."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_unset, unset_like
from ..typing import Memory, Scalar, Slots


class OptimisticSlots(NamedTuple):
    """The slots of optimistic gradients."""

    previous_grad: Tensor  # like p


class scale_by_optimistic_gradient(TensorRule):
    """Adds the change of the update from the last step to this one.

    Entry by entry, for an update g:

        u = alpha g + beta (g - previous_grad)
        previous_grad <- g

    where the first update has no change. The same as in Optax. For games and saddle points, where
    plain gradients circle around the solution.

    u has the unit of g. Shapes: any. Dtypes: the slot in `state_dtype`, else in that of the
    parameter.

    Args:
        alpha: Factor of the update.
        beta: Factor of its change.
        state_dtype: Storage dtype of the slot.

    Raises:
        HyperparameterError: If a hyperparameter is not a number.

    References:
        Mokhtari et al., "A Unified Analysis of Extra-gradient and Optimistic Gradient Methods for
        Saddle Point Problems", AISTATS 2020. https://arxiv.org/abs/1901.08511. Daskalakis et al.,
        "Training GANs with Optimism", ICLR 2018. https://arxiv.org/abs/1711.00141
    """

    alpha: Scalar = 1.0
    beta: Scalar = 1.0
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.number(self, "alpha", self.alpha)
        checks.number(self, "beta", self.beta)

    def init_tensor(self, p: Tensor) -> OptimisticSlots:
        return OptimisticSlots(unset_like(p, self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"both": self.alpha + self.beta}

    def update_tensor(
        self, g: Tensor, slots: OptimisticSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        previous = torch.where(is_unset(slots.previous_grad), g, slots.previous_grad)
        return s.both * g - s.beta * previous, OptimisticSlots(g + 0.0)
