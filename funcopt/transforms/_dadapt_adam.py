"""D-Adaptation: Adam with an estimated learning rate."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._distance import at_most, begun, corrected, quotient


class DAdaptAdamSlots(NamedTuple):
    """The slots of `scale_by_dadapt_adam`."""

    exp_avg: Tensor  # like p: EMA of the gradient, each times r layer_scale
    exp_avg_sq: Tensor  # like p: EMA of the squared gradient
    s: Tensor  # like p: weighted sum of the gradients


class DAdaptAdamMemory(NamedTuple):
    """The shared scalars of `scale_by_dadapt_adam`, of all tensors together."""

    d: Tensor  # (): the estimated distance to the solution
    numerator_weighted: Tensor  # ()


class DAdaptAdamTotals(NamedTuple):
    """The sums over all tensors."""

    numerator: Tensor  # ()
    denominator: Tensor  # ()


class scale_by_dadapt_adam(TensorRule):
    """Adam whose learning rate is ``lr d``, where d estimates the distance to the solution.

    At step t = 1, 2, ..., for a gradient g, betas (b1, b2), ``b = sqrt(b2)`` and ``r = d lr``,
    which is d lr sqrt(1 - b2^t) / (1 - b1^t) with `use_bias_correction`:

        numerator_weighted <- b numerator_weighted
                              + (1 - b) r layer_scale <g, s / (sqrt(exp_avg_sq) + eps)>
        exp_avg    <- b1 exp_avg + (1 - b1) r layer_scale g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        s          <- b s + (1 - b) r g
        d          <- max(d, min(numerator_weighted / ((1 - b) layer_scale |s|_1), d growth_rate))
        u = exp_avg / (sqrt(exp_avg_sq) + eps) + weight_decay r p

    The product <., .> and the norm |.|_1 are over all tensors, parameter groups and ranks, and d is
    one for all. u is the whole step, decoupled decay included, in units of the parameter: it only
    has to be negated, as in `dadapt_adamw`. While all gradients so far are zero, d keeps its value.

    `lr`, `eps`, `weight_decay` and `layer_scale` may differ between parameter groups. A group whose
    `lr` is 0 keeps its values and adds nothing to d; to slow down a group, use `layer_scale`.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.
    `Optimizer.metrics()` shows ``d``.

    Args:
        lr: Multiplies d; leave it at 1, or let a schedule go from 1 to 0. Not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1); the second is
            positive.
        eps: Added outside the root, in units of the gradient; positive.
        weight_decay: Decoupled from the moments; not negative.
        d0: The initial d, in units of the parameter; positive, and rather too small. Read by
            `init`.
        growth_rate: The largest factor by which d grows in a step; at least 1.
        layer_scale: Multiplies the steps of a parameter group; not negative.
        use_bias_correction: Correct the bias of the moments, as in Adam and in Optax.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if what d depends on
            differs between parameter groups.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Defazio and Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023.
        https://arxiv.org/abs/2301.07733
    """

    lr: Scalar = 1.0
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    d0: Scalar = 1e-6
    growth_rate: Scalar = math.inf
    layer_scale: Scalar = 1.0
    use_bias_correction: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})
    needs_params = True
    memory_per = "tree"
    metrics = ("d",)

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.betas(self, "betas", self.betas)
        checks.open_interval(self, "betas[1]", self.betas[1], 0, 1)
        checks.positive(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)
        checks.fixed(self, "d0", self.d0)
        checks.positive(self, "d0", self.d0)
        checks.at_least(self, "growth_rate", self.growth_rate, 1)
        checks.non_negative(self, "layer_scale", self.layer_scale)

    def init_tensor(self, p: Tensor) -> DAdaptAdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return DAdaptAdamSlots(zeros, zeros.clone(), zeros.clone())

    def init_memory(self, like: Tensor) -> DAdaptAdamMemory:
        return DAdaptAdamMemory(begun(like, self.d0), begun(like, 0.0))

    def prepare(self, step: Any, memory: DAdaptAdamMemory) -> dict[str, Any]:
        b1, b2 = self.betas
        rate = memory.d * self.lr
        if self.use_bias_correction:
            rate = rate * corrected(self.betas, step)
        return {
            "beta3": b2**0.5,
            "weights": (1 - b1, 1 - b2, 1 - b2**0.5),
            "rate": rate,
            "scaled_rate": rate * self.layer_scale,
        }

    def measure_tensor(
        self, g: Tensor, slots: DAdaptAdamSlots, p: Tensor, s: Scalars
    ) -> DAdaptAdamTotals:
        along = (g * slots.s / (sqrt(slots.exp_avg_sq) + s.eps)).sum()
        size = _sum(g, slots, s).abs().sum()
        return DAdaptAdamTotals(s.scaled_rate * along, s.layer_scale * size)

    def conclude(
        self, s: Scalars, memory: DAdaptAdamMemory, total: DAdaptAdamTotals
    ) -> tuple[dict[str, Any], Memory]:
        weight = 1 - s.beta3
        numerator = s.beta3 * memory.numerator_weighted + weight * total.numerator
        estimate = quotient(numerator, weight * total.denominator, memory.d)
        d = torch.maximum(memory.d, at_most(estimate, memory.d, s.growth_rate))
        after = DAdaptAdamMemory(d, numerator)
        return {"d": d}, DAdaptAdamMemory(*(x.to(memory.d.dtype) for x in after))

    def update_tensor(
        self, g: Tensor, slots: DAdaptAdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, s.scaled_rate * g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        u = exp_avg / (sqrt(exp_avg_sq) + s.eps) + s.weight_decay * s.rate * p
        return u, DAdaptAdamSlots(exp_avg, exp_avg_sq, _sum(g, slots, s))


def _sum(g: Tensor, slots: DAdaptAdamSlots, s: Scalars) -> Tensor:
    return mix(slots.s, s.rate * g, s.weights[2])
