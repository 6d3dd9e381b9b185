"""Adagrad: gradients divided by the root of the sum of their squares."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Memory, Scalar, Slots


class AdagradSlots(NamedTuple):
    """The slots of Adagrad."""

    sum: Tensor  # like p: sum of the squared gradients, from initial_accumulator_value on


class scale_by_adagrad(TensorRule):
    """Divides the gradient by the root of the sum of all squared gradients.

    Entry by entry, at step t = 1, 2, ...:

        sum <- sum + g^2
        u = g / (sqrt(sum) + eps) / (1 + (t - 1) lr_decay)

    With `eps_in_sqrt`, as in Optax, ``u = g / sqrt(sum + eps)``, and 0 where the sum is 0.

    u has no unit and shrinks as 1 / sqrt(t) while gradients are steady. Shapes: any. Dtypes: `sum`
    in `state_dtype`, else in that of the parameter.

    Args:
        lr_decay: Decay of the learning rate per step; not negative.
        initial_accumulator_value: Initial value of `sum`, in units of the gradient squared; not
            negative.
        eps: In units of the gradient (with `eps_in_sqrt`: squared); not negative.
        eps_in_sqrt: Add `eps` inside the root.
        state_dtype: Storage dtype of the sum.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization", JMLR 2011. https://jmlr.org/papers/v12/duchi11a.html
    """

    lr_decay: Scalar = 0.0
    initial_accumulator_value: Scalar = 0.0
    eps: Scalar = 1e-10
    eps_in_sqrt: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"sum"})

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr_decay", self.lr_decay)
        checks.fixed(self, "initial_accumulator_value", self.initial_accumulator_value)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdagradSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdagradSlots(zeros + self.initial_accumulator_value)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"shrink": 1 / (1 + (step - 1) * self.lr_decay)}

    def update_tensor(
        self, g: Tensor, slots: AdagradSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        total = slots.sum + g * g
        if self.eps_in_sqrt:
            root = sqrt(total + s.eps)
            unit = torch.where(
                root == 0, torch.zeros_like(g), g / torch.where(root == 0, 1.0, root)
            )
        else:
            unit = g / (sqrt(total) + s.eps)
        return unit * s.shrink, AdagradSlots(total)
