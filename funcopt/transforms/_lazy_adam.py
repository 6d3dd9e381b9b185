"""Lazy Adam: rows without gradient are left untouched."""

from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class scale_by_lazy_adam(TensorRule):
    """Adam for embeddings: a row whose gradient is zero keeps its moments, and is not moved.

    Rows are along the first dimension. For those with an entry of the gradient g that is not zero,
    at step t = 1, 2, ..., with betas (b1, b2):

        exp_avg    <- b1 exp_avg + (1 - b1) g
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2
        u = exp_avg sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(exp_avg_sq) + eps)

    and for all others u = 0, with slots as they were. The same as `torch.optim.SparseAdam`, whose
    gradients are sparse, here dense with rows of zeros: t counts the steps of the tensor, and `eps`
    is added before the bias correction. Weight decay would move every row: there is none.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter. On
    shards the gradient is gathered.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, before the bias correction, in units of the gradient; not
            negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or `eps` is negative.
        LeafError: If a parameter is complex.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
        https://arxiv.org/abs/1412.6980. For sparse gradients: `torch.optim.SparseAdam`, and
        LazyAdam of TensorFlow.
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        factor = bias_correction(b2, step) ** 0.5 / bias_correction(b1, step)
        return {"weights": (1 - b1, 1 - b2), "factor": factor}

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        touched = g != 0
        if g.dim() > 1:
            touched = touched.flatten(1).any(1).reshape(-1, *[1] * (g.dim() - 1))
        exp_avg = torch.where(touched, mix(slots.exp_avg, g, s.weights[0]), slots.exp_avg)
        exp_avg_sq = torch.where(
            touched, mix(slots.exp_avg_sq, g * g, s.weights[1]), slots.exp_avg_sq
        )
        root = torch.where(touched, sqrt(exp_avg_sq) + s.eps, 1.0)
        u = torch.where(touched, s.factor * exp_avg / root, 0.0)
        return u, AdamSlots(exp_avg, exp_avg_sq, ())
