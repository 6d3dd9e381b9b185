"""Prodigy: Adam with an estimated learning rate."""

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


class ProdigySlots(NamedTuple):
    """The slots of Prodigy."""

    exp_avg: Tensor  # like p: EMA of the gradient, times d
    exp_avg_sq: Tensor  # like p: EMA of its square
    s: Tensor  # like p: weighted sum of the gradients
    p0: Tensor  # like p: the initial parameters


class ProdigyMemory(NamedTuple):
    """The shared scalars of Prodigy, of all tensors together."""

    d: Tensor  # (): the estimated distance to the solution
    d_max: Tensor  # (): the largest estimate so far
    d_numerator: Tensor  # ()


class ProdigyTotals(NamedTuple):
    """The sums over all tensors."""

    numerator: Tensor  # ()
    denominator: Tensor  # ()


class scale_by_prodigy(TensorRule):
    """Adam whose learning rate is ``lr d``, where d estimates the distance to the solution.

    At step t = 1, 2, ..., for a gradient g, betas (b1, b2), ``b3 = beta3`` or else sqrt(b2), and
    ``r = d lr``, which is d lr sqrt(1 - b2^t) / (1 - b1^t) with `use_bias_correction`:

        d_numerator <- b3 d_numerator + (d / d0) r <g, p0 - p>
        s           <- b3 s + (d / d0) r g
        exp_avg     <- b1 exp_avg + (1 - b1) d g
        exp_avg_sq  <- b2 exp_avg_sq + (1 - b2) d^2 g^2
        d_max       <- max(d_max, d_coef d_numerator / |s|_1)
        d           <- min(d_max, d growth_rate)
        u = r (exp_avg / (sqrt(exp_avg_sq) + d eps) + weight_decay p)

    The product <., .> and the norm |.|_1 are over all tensors, parameter groups and ranks, and d is
    one for all. The first estimate is not limited by `growth_rate`. With `safeguard_warmup`, s
    accumulates (d / d0) d g instead.

    u is the whole step, decoupled decay included, in units of the parameter: it only has to be
    negated, as in `prodigy`. While all gradients so far are zero, d keeps its value.

    `lr`, `eps`, `weight_decay` and, where `beta3` is given, `betas` may differ between parameter
    groups; each group is weighted by its own `lr`. A group at 0 keeps its values and adds nothing.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter, which p0 always has,
    a copy of the initial parameters: in another dtype, it would differ from p at the start.
    `Optimizer.metrics()` shows ``d``.

    Args:
        lr: Multiplies d; leave it at 1, or let a schedule go from 1 to 0. Not negative.
        betas: Decay rates of the first and second moment, in [0, 1).
        beta3: Decay rate of the sums of the estimate, in [0, 1).
        eps: Added outside the root, in units of the gradient; positive.
        weight_decay: Decoupled from the moments; not negative.
        d0: The initial d, in units of the parameter; positive, and rather too small. Read by
            `init`.
        d_coef: Multiplies the estimate; positive. Tune this one.
        growth_rate: The largest factor by which d grows in a step; at least 1.
        use_bias_correction: Correct the bias of the moments, as in Adam and in Optax.
        safeguard_warmup: Leave `lr` out of the denominator, for a warm-up from 0.
        state_dtype: Storage dtype of the slots but p0.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if what d depends on
            differs between parameter groups.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", ICML
        2024. https://arxiv.org/abs/2306.06101
    """

    lr: Scalar = 1.0
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    beta3: Scalar | None = None
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    d0: Scalar = 1e-6
    d_coef: Scalar = 1.0
    growth_rate: Scalar = math.inf
    use_bias_correction: bool = False
    safeguard_warmup: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})
    needs_params = True
    memory_per = "tree"
    metrics = ("d",)

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.betas(self, "betas", self.betas)
        if self.beta3 is not None:
            checks.in_unit_interval(self, "beta3", self.beta3)
        checks.positive(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)
        checks.fixed(self, "d0", self.d0)
        checks.positive(self, "d0", self.d0)
        checks.positive(self, "d_coef", self.d_coef)
        checks.at_least(self, "growth_rate", self.growth_rate, 1)

    def init_tensor(self, p: Tensor) -> ProdigySlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return ProdigySlots(zeros, zeros.clone(), zeros.clone(), p.clone())

    def init_memory(self, like: Tensor) -> ProdigyMemory:
        d = begun(like, self.d0)
        return ProdigyMemory(d, d.clone(), begun(like, 0.0))

    def prepare(self, step: Any, memory: ProdigyMemory) -> dict[str, Any]:
        (b1, b2), d = self.betas, memory.d
        rate = d * self.lr
        if self.use_bias_correction:
            rate = rate * corrected(self.betas, step)
        return {
            "beta3": b2**0.5 if self.beta3 is None else self.beta3,
            "weights": (1 - b1, 1 - b2),
            "d_before": d,
            "rate": rate,
            "of_product": d / self.d0 * rate,
            "of_g": d / self.d0 * (d if self.safeguard_warmup else rate),
        }

    def measure_tensor(
        self, g: Tensor, slots: ProdigySlots, p: Tensor, s: Scalars
    ) -> ProdigyTotals:
        way = (g * (slots.p0 - p)).sum()
        return ProdigyTotals(s.of_product * way, _sum(g, slots, s).abs().sum())

    def conclude(
        self, s: Scalars, memory: ProdigyMemory, total: ProdigyTotals
    ) -> tuple[dict[str, Any], Memory]:
        numerator = s.beta3 * memory.d_numerator + total.numerator
        estimate = quotient(s.d_coef * numerator, total.denominator, memory.d)
        first = memory.d == begun(memory.d, s.d0)
        d = torch.where(first, torch.maximum(memory.d, estimate), memory.d)
        d_max = torch.maximum(memory.d_max, estimate)
        after = ProdigyMemory(at_most(d_max, d, s.growth_rate), d_max, numerator)
        return {"d": after.d}, ProdigyMemory(*(x.to(memory.d.dtype) for x in after))

    def update_tensor(
        self, g: Tensor, slots: ProdigySlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        scaled = s.d_before * g
        exp_avg = mix(slots.exp_avg, scaled, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, scaled * scaled, s.weights[1])
        direction = exp_avg / (sqrt(exp_avg_sq) + s.d * s.eps)
        u = s.rate * (direction + s.weight_decay * p)
        return u, ProdigySlots(exp_avg, exp_avg_sq, _sum(g, slots, s), slots.p0)


def _sum(g: Tensor, slots: ProdigySlots, s: Scalars) -> Tensor:
    total: Tensor = s.beta3 * slots.s + s.of_g * g
    return total
