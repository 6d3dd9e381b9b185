"""AdaMod: Adam whose learning rates, entry by entry, are at most an EMA of themselves."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, is_zero, mix, root, sqrt
from ..typing import Memory, Scalar, Slots


class AdamodSlots(NamedTuple):
    """The slots of AdaMod."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # like p: EMA of its square
    exp_avg_lr: Tensor  # like p: EMA of the learning rate of the entry


class scale_by_adamod(TensorRule):
    """Adam with an upper bound of each entry's learning rate: the EMA of what it has been.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2, b3):

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        r = lr sqrt(1 - b2^t) / ((1 - b1^t) (sqrt(exp_avg_sq) + eps))
        exp_avg_lr <- b3 exp_avg_lr + (1 - b3) r
        u = min(r, exp_avg_lr) exp_avg + lr weight_decay p

    `exp_avg_lr` begins at 0, without bias correction, so it warms the learning rate up, within
    about 1 / (1 - b3) steps. `lr` is part of the average, so a schedule takes effect with a delay
    where it goes up.

    u is the whole step, in units of the parameter: it only has to be negated, as in `adamod`.
    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter. In bfloat16, none of
    the EMAs but the first can change by so little: store them in `torch.float32`.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient, of its square, and of the learning rates of
            entries, in [0, 1).
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.
        MissingParamsError: If `update` is not given the parameters, with weight decay.

    References:
        Ding et al., "An Adaptive and Momental Bound Method for Stochastic Learning", 2019,
        Algorithm 1. https://arxiv.org/abs/1910.12249
    """

    lr: Scalar = 1e-3
    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq", "exp_avg_lr"})

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.betas(self, "betas", self.betas, count=3)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    def init_tensor(self, p: Tensor) -> AdamodSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamodSlots(zeros, zeros.clone(), zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2, b3 = self.betas
        return {
            "weights": (1 - b1, 1 - b2, 1 - b3),
            "rate": self.lr * root(bias_correction(b2, step)) / bias_correction(b1, step),
            "shrinking": self.lr * self.weight_decay,
        }

    def update_tensor(
        self, g: Tensor, slots: AdamodSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        r = s.rate / (sqrt(exp_avg_sq) + s.eps)
        exp_avg_lr = mix(slots.exp_avg_lr, r, s.weights[2])
        u = torch.minimum(r, exp_avg_lr) * exp_avg
        if not is_zero(s.weight_decay):
            u = u + s.shrinking * p
        return u, AdamodSlots(exp_avg, exp_avg_sq, exp_avg_lr)
