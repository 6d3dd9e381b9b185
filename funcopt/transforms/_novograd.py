"""NovoGrad: second moments by tensor, momentum of normalized gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_unset, is_zero, mix, sqrt, unset_like
from ..typing import Memory, Scalar, Slots


class NovogradSlots(NamedTuple):
    """The slots of NovoGrad."""

    exp_avg: Tensor  # like p: momentum of the normalized gradients
    exp_avg_sq: Tensor  # (): EMA of the squared norm of the gradient


class scale_by_novograd(TensorRule):
    """Divides the gradient of each tensor by an EMA of its norm, then adds it up with momentum.

    At step t = 1, 2, ..., for a gradient g, betas (b1, b2), and norms over one tensor:

        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) norm(g)^2
        n = g / (sqrt(exp_avg_sq) + eps) + weight_decay p
        exp_avg <- b1 exp_avg + n,   or b1 exp_avg + (1 - b1) n with `grad_averaging`
        u = exp_avg

    but at the first gradient exp_avg_sq <- norm(g)^2 and exp_avg <- n. The same as in Optax. The
    decay is inside of the momentum.

    u has no unit: n has a norm near 1, however many entries the tensor has. Shapes: any; on shards
    the norm is that of all of the tensor. Dtypes: slots in `state_dtype`, else in that of the
    parameter. Memory: one slot like the parameter, and one number.

    Args:
        betas: Decay rates of the momentum and of the EMA of the squared norm, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay inside of the momentum, in units of the update per unit of the
            parameter; not negative.
        grad_averaging: Mix the normalized gradient in with the weight 1 - b1.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.
        MissingParamsError: If `update` is not given the parameters, with weight decay.

    References:
        Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training
        of Deep Networks", 2019, Algorithm 1. https://arxiv.org/abs/1905.11286
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.25)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    grad_averaging: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    def init_tensor(self, p: Tensor) -> NovogradSlots:
        dtype = self.state_dtype or p.dtype
        norm = torch.zeros((), dtype=dtype, device=p.device)
        return NovogradSlots(torch.zeros_like(p, dtype=dtype), unset_like(norm))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"b1": b1, "weight": 1 - b2, "of_g": 1 - b1 if self.grad_averaging else 1.0}

    def measure_tensor(self, g: Tensor, slots: NovogradSlots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Tensor) -> tuple[dict[str, Any], Memory]:
        return {"square": total}, memory

    def update_tensor(
        self, g: Tensor, slots: NovogradSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        first = is_unset(slots.exp_avg_sq)
        exp_avg_sq = torch.where(first, s.square, mix(slots.exp_avg_sq, s.square, s.weight))
        n = g / (sqrt(exp_avg_sq) + s.eps)
        if not is_zero(s.weight_decay):
            n = n + s.weight_decay * p
        exp_avg = torch.where(first, n, s.b1 * slots.exp_avg + s.of_g * n)
        return exp_avg.clone(), NovogradSlots(exp_avg, exp_avg_sq)
