"""ADOPT: Adam whose denominator does not know the gradient that it divides."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import exact, is_unset, mix, sqrt, unset_like
from ..typing import Memory, Scalar, Slots


class AdoptSlots(NamedTuple):
    """The slots of ADOPT."""

    exp_avg: Tensor  # like p: EMA of the normalized gradient
    exp_avg_sq: Tensor  # like p: EMA of the squared gradient, from its first square on


class scale_by_adopt(TensorRule):
    """Divides the gradient by the root of the EMA of earlier squares, then averages the quotient.

    Entry by entry, at step t = 1, 2, ..., for a gradient g and betas (b1, b2):

        n = g / max(sqrt(exp_avg_sq), eps), clipped to +-(t - 1)^clip_exp
        exp_avg    <- b1 exp_avg + (1 - b1) n
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        u = exp_avg

    but at the first gradient u = 0, exp_avg stays 0, and exp_avg_sq <- g^2. The new square enters
    after it has been used, so that b2 need not depend on the problem for the method to converge.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter. In
    bfloat16, `exp_avg_sq` keeps its value at ``b2 = 0.9999``: store it in `torch.float32`.

    Args:
        betas: Decay rates of the EMAs of the normalized gradient and of the squared gradient, in
            [0, 1).
        eps: Lower bound of the root, in units of the gradient; not negative.
        clip_exp: Power with which the bound of the normalized gradient grows; not negative. With
            `None`, as in the first version of the method, it is not clipped.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate",
        NeurIPS 2024, Algorithm 2. https://arxiv.org/abs/2411.02853
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.9999)
    eps: Scalar = 1e-6
    clip_exp: Scalar | None = 0.25
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        if self.clip_exp is not None:
            checks.non_negative(self, "clip_exp", self.clip_exp)

    def init_tensor(self, p: Tensor) -> AdoptSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdoptSlots(zeros, unset_like(p, self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        bound = math.inf if self.clip_exp is None else exact(step - 1) ** self.clip_exp
        return {"weights": (1 - b1, 1 - b2), "bound": bound}

    def update_tensor(
        self, g: Tensor, slots: AdoptSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        first = is_unset(slots.exp_avg_sq)
        root = sqrt(slots.exp_avg_sq).clamp(min=s.eps)
        n = (g / torch.where(first, 1.0, root)).clamp(-s.bound, s.bound)
        exp_avg = mix(slots.exp_avg, torch.where(first, 0.0, n), s.weights[0])
        later = mix(slots.exp_avg_sq, g * g, s.weights[1])
        return exp_avg.clone(), AdoptSlots(exp_avg, torch.where(first, g * g, later))
