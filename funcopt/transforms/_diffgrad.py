"""DiffGrad: Adam with less momentum where the gradient has hardly changed."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, root, sqrt
from ..typing import Memory, Scalar, Slots


class DiffgradSlots(NamedTuple):
    """The slots of DiffGrad."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # like p: EMA of its square
    previous_grad: Tensor  # like p: the gradient of the last step


class scale_by_diffgrad(TensorRule):
    """Adam whose numerator is multiplied by a function of the change of the gradient.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        friction = sigmoid(abs(previous_grad - g))
        u = friction exp_avg sqrt(1 - b2^t) / ((1 - b1^t) (sqrt(exp_avg_sq) + eps))
        previous_grad <- g

    with ``previous_grad = 0`` at first. friction is in [0.5, 1), and depends on the size of
    gradients: where they are small, it is near 0.5, and the update half that of Adam. `eps` is
    added without bias correction, as in the authors' code; the paper corrects both moments.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.

    References:
        Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks", 2019.
        https://arxiv.org/abs/1909.11015
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> DiffgradSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return DiffgradSlots(zeros, zeros.clone(), zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "correction": root(bias_correction(b2, step)) / bias_correction(b1, step),
        }

    def update_tensor(
        self, g: Tensor, slots: DiffgradSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        friction = torch.sigmoid((slots.previous_grad - g).abs())
        u = s.correction * friction * exp_avg / (sqrt(exp_avg_sq) + s.eps)
        return u, DiffgradSlots(exp_avg, exp_avg_sq, g.clone())
