"""AdaBound: Adam whose learning rates, entry by entry, are between bounds that close in."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, double, exact, mix, root, sqrt, where
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class AdaboundMemory(NamedTuple):
    """The shared scalars of `scale_by_adabound`."""

    base_lr: Tensor  # (): the first learning rate that was not 0; 0 before


class scale_by_adabound(TensorRule):
    """Adam with bounds of each entry's learning rate, which go from none to those of SGD.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        r    = lr sqrt(1 - b2^t) / ((1 - b1^t) (sqrt(exp_avg_sq) + eps))
        f    = final_lr lr / base_lr
        low  = f (1 - 1 / (gamma t + 1))
        high = f (1 + 1 / (gamma t))
        u = min(max(r, low), high) exp_avg

    With `amsgrad`, the root is that of the maximum of `exp_avg_sq` so far (AMSBound). f follows the
    schedule of `lr`, as in the authors' code.

    u is the whole step, in units of the parameter: it only has to be negated, as in `adabound`.
    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        lr: Learning rate of the first steps, as of Adam; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        final_lr: Learning rate of the last steps, as of SGD; not negative.
        gamma: How fast the bounds close in: the range is about ``final_lr / gamma / t``; positive.
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        base_lr: The learning rate at which the last is `final_lr`; positive. By default the first
            that is not 0, which is not the peak if there is a warm-up.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `gamma` or `base_lr` is not
            positive, or another hyperparameter is negative.

    References:
        Luo et al., "Adaptive Gradient Methods with Dynamic Bound of Learning Rate", ICLR 2019,
        Algorithm 2. https://arxiv.org/abs/1902.09843
    """

    lr: Scalar = 1e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    final_lr: Scalar = 0.1
    gamma: Scalar = 1e-3
    eps: Scalar = 1e-8
    amsgrad: bool = False
    base_lr: Scalar | None = None
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq", "max_exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "final_lr", self.final_lr)
        checks.positive(self, "gamma", self.gamma)
        checks.non_negative(self, "eps", self.eps)
        if self.base_lr is not None:
            checks.positive(self, "base_lr", self.base_lr)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), zeros.clone() if self.amsgrad else ())

    def init_memory(self, like: Tensor) -> Memory:
        if self.base_lr is not None:
            return ()
        return AdaboundMemory(torch.zeros((), dtype=torch.float64))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        base = self.base_lr
        if base is None:
            base = where(memory.base_lr > 0, memory.base_lr, self.lr)
        final = self.final_lr * self.lr / where(base > 0, base, 1.0)
        b1, b2 = self.betas
        t = self.gamma * exact(step)
        return {
            "weights": (1 - b1, 1 - b2),
            "rate": self.lr * root(bias_correction(b2, step)) / bias_correction(b1, step),
            "low": final * (1 - 1 / (t + 1)),
            "high": final * (1 + 1 / t),
            "base": base,
        }

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[dict[str, Any], Memory]:
        return {}, AdaboundMemory(double(s.base)) if self.base_lr is None else memory

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        greatest = slots.max_exp_avg_sq
        if self.amsgrad:
            greatest = torch.maximum(greatest, exp_avg_sq)
        r = s.rate / (sqrt(greatest if self.amsgrad else exp_avg_sq) + s.eps)
        r = torch.where(r < s.low, s.low, r)
        r = torch.where(r > s.high, s.high, r)
        return r * exp_avg, AdamSlots(exp_avg, exp_avg_sq, greatest)
