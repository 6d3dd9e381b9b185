"""Adafactor's learning rate."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_zero, where
from ..typing import Memory, Scalar, Slots


class scale_by_relative_step(TensorRule):
    """Multiplies the updates by `lr`, or by one over the root of the step, once that is less.

    At step t = 1, 2, ..., for an update g and a parameter p:

        rho = min(lr, 1 / sqrt(t))
        u = rho g + lr weight_decay p

    As in torch's Adafactor, `lr` is the largest learning rate, and weight decay always uses it.
    `scale(-1.0)` negates u. Shapes: any.

    Args:
        lr: The largest learning rate, in units of the parameter per unit of the update; not
            negative.
        weight_decay: Decoupled weight decay, times `lr`; not negative.

    Raises:
        HyperparameterError: If a hyperparameter is negative.
        MissingParamsError: If `update` is not given the parameters, and `weight_decay` is not 0.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018, section 8. https://arxiv.org/abs/1804.04235
    """

    lr: Scalar = 1e-2
    weight_decay: Scalar = 0.0
    elementwise = True
    metrics = ("rho",)

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.non_negative(self, "weight_decay", self.weight_decay)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        falling = step**-0.5
        return {
            "rho": where(self.lr < falling, self.lr, falling),
            "share": 0.0 if is_zero(self.weight_decay) else self.lr * self.weight_decay,
        }

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return s.rho * g if is_zero(s.weight_decay) else s.rho * g + s.share * p, slots
