"""RMSprop: gradients divided by their root mean square."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, sqrt
from ..typing import Memory, Scalar, Slots


class RmsSlots(NamedTuple):
    """The slots of RMSprop."""

    square_avg: Tensor  # like p: EMA of the squared gradient
    grad_avg: Any  # like p: EMA of the gradient; () if not centered


class scale_by_rms(TensorRule):
    """Divides the gradient by the root of the EMA of its square, or of its variance.

    Entry by entry:

        square_avg <- alpha square_avg + (1 - alpha) g^2
        u = g / (sqrt(square_avg) + eps)

    With `centered`, the square of the EMA of the gradient is subtracted under the root. With
    `eps_in_sqrt`, as in Optax, the denominator is ``sqrt(square_avg + eps)``. There is no bias
    correction, so first steps are long; TensorFlow shortens them by ``initial_scale = 1``.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        alpha: Decay rate of the EMAs, in [0, 1).
        eps: In units of the gradient (with `eps_in_sqrt`: squared); not negative.
        centered: Divide by the standard deviation.
        eps_in_sqrt: Add `eps` inside the root.
        initial_scale: Initial value of `square_avg`, in units of the gradient squared; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If `alpha` is outside [0, 1), or another hyperparameter is negative.

    References:
        Tieleman and Hinton, "Lecture 6.5, rmsprop", Coursera: Neural Networks for Machine Learning,
        2012. Graves, 2013, https://arxiv.org/abs/1308.0850, Equation 40, for centered.
    """

    alpha: Scalar = 0.99
    eps: Scalar = 1e-8
    centered: bool = False
    eps_in_sqrt: bool = False
    initial_scale: Scalar = 0.0
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"square_avg"})

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "alpha", self.alpha)
        checks.non_negative(self, "eps", self.eps)
        checks.fixed(self, "initial_scale", self.initial_scale)

    def init_tensor(self, p: Tensor) -> RmsSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        square_avg = zeros + self.initial_scale
        return RmsSlots(square_avg, zeros if self.centered else ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.alpha}

    def update_tensor(
        self, g: Tensor, slots: RmsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        square_avg = mix(slots.square_avg, g * g, s.weight)
        grad_avg, spread = slots.grad_avg, square_avg
        if self.centered:
            grad_avg = mix(grad_avg, g, s.weight)
            # A variance is not negative, but its rounded difference may be.
            spread = (square_avg - grad_avg * grad_avg).clamp(min=0.0)
        root = sqrt(spread + s.eps) if self.eps_in_sqrt else sqrt(spread) + s.eps
        return g / root, RmsSlots(square_avg, grad_avg)
