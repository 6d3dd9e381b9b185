"""ASGD: a learning rate that decays, for averaging."""

from typing import Any, NamedTuple

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import at, double, is_zero, power, where
from ..typing import Memory, Scalar, Slots


class AsgdMemory(NamedTuple):
    """The shared scalars of ASGD."""

    eta: Tensor  # (): the learning rate of the next step


class scale_by_asgd(TensorRule):
    """Multiplies the gradient, plus a weight decay, by a decaying learning rate, as in torch.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and a parameter p:

        u = eta (g + lambd p),   where eta = lr at t = 1, else what the last step has left
        eta <- lr / (1 + lambd lr t)^alpha

    So a change of `lr` takes effect one step later, as in torch. u is a step, in units of the
    parameter; `scale(-1.0)` negates it. The average of the method is `mean_of_params`. Shapes: any.
    Dtypes: `eta` is kept in float64.

    Args:
        lr: The initial learning rate, in units of the parameter per unit of the gradient; not
            negative.
        lambd: The weight decay, in units of the gradient per unit of the parameter; not negative.
        alpha: The power with which the learning rate decays.

    Raises:
        HyperparameterError: If `lr` or `lambd` is negative, or `alpha` is not a number.
        MissingParamsError: If `update` is not given the parameters, and `lambd` is not 0.

    References:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992. Bottou,
        "Large-Scale Machine Learning with Stochastic Gradient Descent", 2010, for the learning
        rate.
    """

    lr: Scalar = 1e-2
    lambd: Scalar = 1e-4
    alpha: Scalar = 0.75
    elementwise = True
    metrics = ("eta",)

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.non_negative(self, "lambd", self.lambd)
        checks.number(self, "alpha", self.alpha)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.lambd)

    def init_memory(self, like: Tensor) -> AsgdMemory:
        return AsgdMemory(double(at(self.lr, 0)).clone())

    def prepare(self, step: Any, memory: AsgdMemory) -> dict[str, Any]:
        return {
            "eta": where(step == 1, self.lr, memory.eta),
            "next": self.lr / power(1 + self.lambd * self.lr * step, self.alpha),
        }

    def conclude(self, s: Scalars, memory: AsgdMemory, total: Any) -> tuple[dict[str, Any], Memory]:
        return {}, AsgdMemory(double(s.next))

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return s.eta * (g if is_zero(s.lambd) else g + s.lambd * p), slots
