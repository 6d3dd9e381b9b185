"""Polyak's step size: the gap of the loss over the squared norm of the gradient."""

from typing import Any, Literal

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import beside
from ..typing import Memory, Scalar, Slots

SMALLEST = torch.finfo(torch.float64).eps
"""Squared norms up to this are taken for zero, as in Optax."""


class scale_by_polyak(TensorRule):
    """Multiplies the updates by Polyak's step size, which reads the loss.

    For an update g, and the loss `value` that its gradient is of:

        squares = (sum of squares over all entries of all tensors) + eps
        eta = min((value - f_min) / squares, max_lr)
        u = eta g

    where squares is at most 2.2e-16, u = 0. With ``variant="sps+"``, eta is not negative. The same
    as in Optax. eta is one for all tensors, parameter groups and ranks, in units of the parameter
    per unit of the update. `value` is an extra argument of `update`; ``opt.step(closure)`` passes
    on what the closure returns, else it is ``opt.step(value=loss)``.

    Shapes: any. `Optimizer.metrics()` shows ``eta``.

    Args:
        f_min: The lowest value of the loss, or a lower bound.
        max_lr: Upper bound of eta; positive.
        eps: Added to the squares, in units of the update squared; not negative.
        variant: ``"sps"``, or ``"sps+"``, which does not ascend where the loss is below `f_min`.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if one differs
            between parameter groups.
        ExtraArgumentError: If `update` is not given `value`.

    References:
        Loizou et al., "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast
        Convergence", AISTATS 2021. https://arxiv.org/abs/2002.10542. Garrigos et al., "Function
        Value Learning: Adaptive Learning Rates Based on the Polyak Stepsize and Function
        Splitting in ERM", 2023, https://arxiv.org/abs/2307.14528, for "sps+".
    """

    f_min: Scalar = 0.0
    max_lr: Scalar = 1.0
    eps: Scalar = 0.0
    variant: Literal["sps", "sps+"] = "sps"
    elementwise = True
    memory_per = "tree"
    metrics = ("eta",)

    def __post_init__(self) -> None:
        checks.number(self, "f_min", self.f_min)
        checks.positive(self, "max_lr", self.max_lr)
        checks.non_negative(self, "eps", self.eps)
        checks.choice(self, "variant", self.variant, ("sps", "sps+"))

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(  # type: ignore[override]  # it asks for an extra argument
        self, s: Scalars, memory: Memory, total: Tensor, *, value: Any
    ) -> tuple[dict[str, Any], Memory]:
        squares = total + s.eps
        none = squares <= SMALLEST
        eta = (beside(total, value) - s.f_min) / torch.where(none, 1.0, squares)
        eta = torch.minimum(eta, torch.zeros_like(eta) + s.max_lr)
        if self.variant == "sps+":
            eta = eta.clamp(min=0.0)
        return {"eta": torch.where(none, 0.0, eta)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return s.eta * g, slots
