"""Sophia: the EMA of the gradient over a clipped estimate of the Hessian's diagonal."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix
from ..typing import Memory, Scalar, Slots


class SophiaSlots(NamedTuple):
    """The slots of Sophia."""

    exp_avg: Tensor  # like p: EMA of the gradient
    hessian_diag: Tensor  # like p: EMA of the estimates of the Hessian's diagonal


class scale_by_sophia(TensorRule):
    """Divides the EMA of the gradient by that of the diagonal of the Hessian, and clips.

    For a gradient g and betas (b1, b2), and an estimate H of the diagonal where one is given:

        exp_avg      <- b1 exp_avg + (1 - b1) g
        hessian_diag <- b2 hessian_diag + (1 - b2) H
        m = exp_avg / (1 - b1^t)
        u = clip(m / max(gamma hessian_diag, eps), -clip_threshold, clip_threshold)

    H is the extra argument `hessian`, a tree like the parameters, in an `Optimizer` a dict by name.
    It may be given in some steps only, as every tenth, or be None for some parameters: then
    `hessian_diag` keeps its value. On many ranks, give the mean over them. Where the curvature is
    small or negative, and before the first estimate, u is ``clip_threshold sign(m)``.

    u is in units of the parameter times `gamma`, but for the clipping. Shapes: any. Dtypes: both
    slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of the estimates, in [0, 1).
        eps: Lower bound of the denominator, in units of the Hessian; positive.
        gamma: Factor of the Hessian; positive. The larger, the fewer entries are clipped.
        clip_threshold: Largest absolute value of an entry of u; positive.
        debias: Apply the bias correction of the EMA of the gradient, as Optax does; the authors do
            not.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.
        StructureError: From `update`, if `hessian` does not fit the parameters.

    References:
        Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
        Pre-training", ICLR 2024, Algorithm 3. https://arxiv.org/abs/2305.14342
    """

    betas: tuple[Scalar, Scalar] = (0.965, 0.99)
    eps: Scalar = 1e-8
    gamma: Scalar = 0.01
    clip_threshold: Scalar = 1.0
    debias: bool = True
    state_dtype: torch.dtype | None = None
    elementwise = True
    tensor_extra = ("hessian",)
    optional_extra = ("hessian",)

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        for name in ("eps", "gamma", "clip_threshold"):
            checks.positive(self, name, getattr(self, name))

    def init_tensor(self, p: Tensor) -> SophiaSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return SophiaSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        correction = bias_correction(b1, step) if self.debias else 1.0
        return {"weights": (1 - b1, 1 - b2), "correction": correction}

    def update_tensor(
        self, g: Tensor, slots: SophiaSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean, curvature = mix(slots.exp_avg, g, s.weights[0]), slots.hessian_diag
        if s.hessian is not None:
            curvature = mix(curvature, s.hessian, s.weights[1])
        ratio = mean / s.correction / (s.gamma * curvature).clamp(min=s.eps)
        return ratio.clamp(-s.clip_threshold, s.clip_threshold), SophiaSlots(mean, curvature)
