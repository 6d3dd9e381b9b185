"""COCOB: each entry bets on its own gradient, without a learning rate."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from ..typing import Scalar, Slots


class CocobSlots(NamedTuple):
    """The slots of COCOB."""

    p0: Tensor  # like p: the initial parameters
    grad_sum: Tensor  # like p: sum of the gradients
    grad_abs_sum: Tensor  # like p: sum of their absolute values
    max_grad: Tensor  # like p: largest absolute value of a gradient so far
    reward: Tensor  # like p: what has been won by bets, not below 0


class scale_by_cocob(TensorRule):
    """Bets a fraction of the reward so far on the sum of the gradients (COCOB-Backprop).

    Entry by entry, for a gradient g:

        max_grad     <- max(max_grad, |g|, eps)
        grad_abs_sum <- grad_abs_sum + |g|
        reward       <- max(0, reward + g (p0 - p))
        grad_sum     <- grad_sum + g
        bound = max_grad max(grad_abs_sum + max_grad, alpha max_grad)
        u = p - p0 + grad_sum (max_grad + reward) / bound

    u is the whole step, in units of the parameter: it only has to be negated, as in `cocob`. The
    same as in Optax. The scale of the gradient does not matter, but for `eps`.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter, which p0 always has,
    a copy of the initial parameters.

    Args:
        alpha: Bounds the first bets: the first step is 1 / alpha; positive.
        eps: Lower bound of `max_grad`, in units of the gradient; positive.
        state_dtype: Storage dtype of the slots but p0.

    Raises:
        HyperparameterError: If a hyperparameter is not positive.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Orabona and Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting",
        NeurIPS 2017, Algorithm 2. https://arxiv.org/abs/1705.07795
    """

    alpha: Scalar = 100.0
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"grad_abs_sum", "max_grad", "reward"})
    needs_params = True

    def __post_init__(self) -> None:
        checks.positive(self, "alpha", self.alpha)
        checks.positive(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> CocobSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return CocobSlots(p.clone(), zeros, *(zeros.clone() for _ in range(3)))

    def update_tensor(
        self, g: Tensor, slots: CocobSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        moved = p - slots.p0
        max_grad = torch.maximum(slots.max_grad, g.abs()).clamp(min=s.eps)
        grad_abs_sum = slots.grad_abs_sum + g.abs()
        reward = (slots.reward - g * moved).clamp(min=0.0)
        grad_sum = slots.grad_sum + g
        bound = max_grad * torch.maximum(grad_abs_sum + max_grad, s.alpha * max_grad)
        u = moved + grad_sum / bound * (max_grad + reward)
        return u, CocobSlots(slots.p0, grad_sum, grad_abs_sum, max_grad, reward)
