"""AdamP and SGDP: steps without the part that only makes scale-invariant weights larger."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots
from ._momentum import TraceSlots


class Projected(NamedTuple):
    """The update of one tensor, and what its weight decay is in proportion to."""

    update: Tensor  # like p
    decayed: Tensor  # like p: p itself, or wd_ratio p where the update was projected


class scale_by_adamp(TensorRule):
    """Adam without the part of updates that only makes scale-invariant weights larger.

    At step t = 1, 2, ..., for a gradient g and betas (b1, b2), entry by entry:

        exp_avg    <- b1 exp_avg + (1 - b1) g            m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2       v = exp_avg_sq / (1 - b2^t)
        a = m / (sqrt(v) + eps)

    then, for rows of n entries: those of one index of the first dimension, or the whole tensor as
    one row, if the rows do not fulfil the condition and it does:

        cos = abs(<g, p>) / (max(norm(g), eps) max(norm(p), eps))
        h = p / (norm(p) + eps)
        u = a - <h, a> h + wd_ratio weight_decay p,   if max(cos) < delta / sqrt(n)
        u = a + weight_decay p,   if neither does

    Weights in front of a normalization layer have a gradient perpendicular to them, so any step
    makes them larger, and the next steps smaller by comparison; momentum more than the gradient
    alone. With `nesterov`, ``m = (b1 exp_avg + (1 - b1) g) / (1 - b1^t)``, as in the authors' code.

    u has no unit. Shapes: any; tensors with less than two dimensions are never projected. On shards
    the tensors are gathered. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, in units of the gradient, and to norms; not negative.
        weight_decay: Weight decay, in units of the update per unit of the parameter; not negative.
        delta: Threshold of the cosine, for rows of one entry; not negative.
        wd_ratio: Factor of the weight decay of tensors that are projected, in [0, 1].
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `wd_ratio` is outside [0, 1], or
            another hyperparameter is negative.
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021, Algorithm 2. https://arxiv.org/abs/2006.08217
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    delta: Scalar = 0.1
    wd_ratio: Scalar = 0.1
    nesterov: bool = False
    state_dtype: torch.dtype | None = None
    nonnegative = frozenset({"exp_avg_sq"})
    needs_params = True
    batched = True

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        _check_projection(self)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        m = mix(exp_avg, g, s.weights[0]) if self.nesterov else exp_avg
        a = m / s.corrections[0] / (sqrt(exp_avg_sq / s.corrections[1]) + s.eps)
        u, decayed = projected(a, g, p, s)
        return u + s.weight_decay * decayed, AdamSlots(exp_avg, exp_avg_sq, ())


class scale_by_sgdp(TensorRule):
    """Momentum without the part of updates that only makes scale-invariant weights larger.

    For a gradient g:

        b <- momentum b + (1 - dampening) g
        a  = b,   or with nesterov   a = g + momentum b

    then u is made of a as in `scale_by_adamp`, with ``weight_decay / (1 - momentum)`` for the
    weight decay, as in the authors' code: a decay of the gradient would add up by that factor.
    Unlike in `trace`, `dampening` holds in the first step too.

    u has the unit of the gradient. Shapes: any; tensors with less than two dimensions are never
    projected. On shards the tensors are gathered. Dtypes: `momentum_buffer`, which is b, in
    `state_dtype`, else in that of the parameter.

    Args:
        momentum: Decay rate of the sum, in [0, 1).
        dampening: The fraction of a gradient that is left out.
        eps: Added to norms, in units of the gradient and of the parameter; not negative.
        weight_decay: Weight decay, in units of the gradient per unit of the parameter; not
            negative.
        delta: Threshold of the cosine, for rows of one entry; not negative.
        wd_ratio: Factor of the weight decay of tensors that are projected, in [0, 1].
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the slot.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `wd_ratio` is outside [0, 1], or
            another hyperparameter is negative.
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021, Algorithm 1. https://arxiv.org/abs/2006.08217
    """

    momentum: Scalar = 0.9
    dampening: Scalar = 0.0
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    delta: Scalar = 0.1
    wd_ratio: Scalar = 0.1
    nesterov: bool = False
    state_dtype: torch.dtype | None = None
    needs_params = True
    batched = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        checks.number(self, "dampening", self.dampening)
        _check_projection(self)

    def init_tensor(self, p: Tensor) -> TraceSlots:
        return TraceSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        left: Any = 1 - self.momentum
        return {"of_g": 1 - self.dampening, "decay": self.weight_decay / left}

    def update_tensor(
        self, g: Tensor, slots: TraceSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        b = s.momentum * slots.momentum_buffer + s.of_g * g
        a = g + s.momentum * b if self.nesterov else b
        u, decayed = projected(a, g, p, s)
        return u + s.decay * decayed, TraceSlots(b)


def projected(a: Tensor, g: Tensor, p: Tensor, s: Scalars) -> Projected:
    """A step without its part along the parameter, where the gradient hardly has one."""
    if p.ndim < 2 or not p.numel():
        return Projected(a, p)
    by_rows, along_rows = _radial(a, g, p, s, 1)
    as_one, along = _radial(a, g, p, s, 0)
    taken = torch.where(by_rows, along_rows, torch.where(as_one, along, 0.0))
    return Projected(a - taken, torch.where(by_rows | as_one, s.wd_ratio * p, p))


def _radial(a: Tensor, g: Tensor, p: Tensor, s: Scalars, first: int) -> tuple[Tensor, Tensor]:
    """Whether all rows are perpendicular to the gradient, and the part of a step along them."""
    dims = tuple(range(first, p.ndim))
    inner = (g * p).sum(dims, keepdim=True).abs()
    of_g, of_p = (sqrt(x.square().sum(dims, keepdim=True)) for x in (g, p))
    cosine = inner / (of_g.clamp(min=s.eps) * of_p.clamp(min=s.eps))
    entries = p.numel() // inner.numel()
    norm = of_p + s.eps
    h = p / torch.where(norm == 0, 1.0, norm)
    return cosine.max() < s.delta / entries**0.5, h * (h * a).sum(dims, keepdim=True)


def _check_projection(rule: scale_by_adamp | scale_by_sgdp) -> None:
    checks.non_negative(rule, "eps", rule.eps)
    checks.non_negative(rule, "weight_decay", rule.weight_decay)
    checks.non_negative(rule, "delta", rule.delta)
    checks.fraction(rule, "wd_ratio", rule.wd_ratio)
