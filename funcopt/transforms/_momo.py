"""MoMo: momentum with a step size from a model of the loss."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import beside, bias_correction, exact, mix, sqrt, where
from ..typing import Memory, Scalar, Slots
from ._distance import begun
from ._polyak import SMALLEST


class MomoSlots(NamedTuple):
    """The slots of MoMo."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Any  # like p: EMA of its square; () in MoMo without Adam


class MomoMemory(NamedTuple):
    """The shared scalars of MoMo, of all tensors together."""

    value_avg: Tensor  # (): EMA of the loss
    product_avg: Tensor  # (): EMA of <g, p>
    weight: Tensor  # (): the total weight of both
    bound: Tensor  # (): the lower bound of the loss


class MomoTotals(NamedTuple):
    """The sums over all tensors."""

    gradient: Tensor  # (): <g, p>
    momentum: Tensor  # (): <exp_avg, p>
    squares: Tensor  # (): <exp_avg, exp_avg / denominator>


class _momo(TensorRule):
    """What MoMo and MoMo-Adam share: all but the weights of the EMAs, and the denominator."""

    elementwise = True
    needs_params = True
    memory_per = "tree"
    metrics = ("eta",)

    lr: Scalar = 1.0
    lower_bound: Scalar = 0.0
    weight_decay: Scalar = 0.0
    adapt_lower_bound: bool = False

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.number(self, "lower_bound", self.lower_bound)
        checks.non_negative(self, "weight_decay", self.weight_decay)

    def init_memory(self, like: Tensor) -> MomoMemory:
        return MomoMemory(*(begun(like, 0.0) for _ in range(4)))

    def moments(self, g: Tensor, slots: MomoSlots, s: Scalars) -> tuple[Tensor, Any, Tensor | None]:
        """Both EMAs, and the denominator."""
        raise NotImplementedError

    def measure_tensor(self, g: Tensor, slots: MomoSlots, p: Tensor, s: Scalars) -> MomoTotals:
        exp_avg, _, denominator = self.moments(g, slots, s)
        scaled = exp_avg if denominator is None else exp_avg / denominator
        return MomoTotals((g * p).sum(), (exp_avg * p).sum(), (exp_avg * scaled).sum())

    def conclude(  # type: ignore[override]  # it asks for an extra argument
        self, s: Scalars, memory: MomoMemory, total: MomoTotals, *, value: Any
    ) -> tuple[dict[str, Any], Memory]:
        share = self.share(s, memory)
        value_avg = memory.value_avg + share * (beside(memory.weight, value) - memory.value_avg)
        product_avg = memory.product_avg + share * (total.gradient - memory.product_avg)
        weight = memory.weight + share * (1 - memory.weight)
        grown = 1 + s.lr * s.weight_decay
        bound = 0 * weight + s.lower_bound
        if self.adapt_lower_bound:
            bound = torch.where(memory.weight == 0, bound, memory.bound)
            cap = grown * (value_avg - product_avg) + total.momentum
            lowered = (cap / (2 * weight * grown)).clamp(min=s.lower_bound)
            bound = torch.where(cap < grown * weight * bound, lowered, bound)
        gap = grown * (value_avg - weight * bound - product_avg) + total.momentum
        none = total.squares <= SMALLEST
        eta = gap.clamp(min=0.0) / torch.where(none, 1.0, total.squares)
        eta = torch.minimum(torch.where(none, 0.0, eta), s.lr / weight)
        if self.adapt_lower_bound:
            reached = value_avg + total.momentum - product_avg - 0.5 * eta * total.squares
            bound = (reached / weight).clamp(min=s.lower_bound)
        after = MomoMemory(value_avg, product_avg, weight, bound)
        shrunk = s.lr * s.weight_decay / grown
        kept = MomoMemory(*(x.to(memory.weight.dtype) for x in after))
        return {"eta": eta, "shrunk": shrunk}, kept

    def share(self, s: Scalars, memory: MomoMemory) -> Any:
        """The weight of this step's loss in the EMA."""
        raise NotImplementedError

    def update_tensor(
        self, g: Tensor, slots: MomoSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg, exp_avg_sq, denominator = self.moments(g, slots, s)
        scaled = exp_avg if denominator is None else exp_avg / denominator
        return s.shrunk * p + s.eta * scaled, MomoSlots(exp_avg, exp_avg_sq)


class scale_by_momo(_momo):
    """SGD with momentum, and a step size from the EMA of the loss (MoMo).

    At step t = 1, 2, ..., for a gradient g, the loss `value` that it is of, b = beta, but 0 at the
    first step, and products over all tensors:

        exp_avg     <- b exp_avg + (1 - b) g
        value_avg   <- b value_avg + (1 - b) value
        product_avg <- b product_avg + (1 - b) <g, p>
        gap = (1 + lr weight_decay) (value_avg - lower_bound - product_avg) + <exp_avg, p>
        eta = min(lr, max(gap, 0) / norm(exp_avg)^2)
        u = eta exp_avg + lr weight_decay / (1 + lr weight_decay) p

    gap is what the model of the loss, a mean of tangents, still has above its lower bound. u is the
    whole step, in units of the parameter: it only has to be negated, as in `momo`. eta is one for
    all tensors, parameter groups and ranks. `value` is an extra argument of `update`;
    ``opt.step(closure)`` passes on what the closure returns, else it is ``opt.step(value=loss)``.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter; the shared scalars
    in float64, where the device has it. `Optimizer.metrics()` shows ``eta``.

    Args:
        lr: Upper bound of eta; not negative, and rather large.
        lower_bound: The lowest value of the loss, or a lower bound.
        weight_decay: Weight decay, times `lr`; not negative.
        adapt_lower_bound: Estimate the lower bound: `lower_bound` is the lowest estimate.
        beta: Decay rate of the EMAs, in [0, 1).
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if one differs
            between parameter groups.
        ExtraArgumentError: If `update` is not given `value`.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024,
        Algorithm 1. https://arxiv.org/abs/2305.07583
    """

    beta: Scalar = 0.9
    state_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "beta", self.beta)
        super().__post_init__()

    def init_tensor(self, p: Tensor) -> MomoSlots:
        return MomoSlots(torch.zeros_like(p, dtype=self.state_dtype), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"share": where(step == 1, 1.0, 1 - self.beta)}

    def share(self, s: Scalars, memory: MomoMemory) -> Any:
        return where(memory.weight == 0, 1.0, 1 - s.beta)

    def moments(self, g: Tensor, slots: MomoSlots, s: Scalars) -> tuple[Tensor, Any, Tensor | None]:
        return mix(slots.exp_avg, g, s.share), (), None


class scale_by_momo_adam(_momo):
    """Adam with decoupled weight decay, and a step size from the EMA of the loss (MoMo-Adam).

    At step t = 1, 2, ..., for a gradient g, the loss `value` that it is of, betas (b1, b2),
    ``c = 1 - b1^t``, and products over all tensors:

        exp_avg     <- b1 exp_avg + (1 - b1) g
        exp_avg_sq  <- b2 exp_avg_sq + (1 - b2) g^2
        value_avg   <- b1 value_avg + (1 - b1) value
        product_avg <- b1 product_avg + (1 - b1) <g, p>
        d = sqrt(exp_avg_sq / (1 - b2^t)) + eps
        gap = (1 + lr weight_decay) (value_avg - c lower_bound - product_avg) + <exp_avg, p>
        eta = min(lr / c, max(gap, 0) / <exp_avg, exp_avg / d>)
        u = eta exp_avg / d + lr weight_decay / (1 + lr weight_decay) p

    Where eta is lr / c, that is Adam. u is the whole step: it only has to be negated, as in
    `momo_adam`. For `value`, shapes and dtypes see `scale_by_momo`.

    Args:
        lr: Upper bound of eta, times c; not negative, and rather large.
        lower_bound: The lowest value of the loss, or a lower bound.
        weight_decay: Weight decay, times `lr`; not negative.
        adapt_lower_bound: Estimate the lower bound: `lower_bound` is the lowest estimate.
        betas: Decay rates of the EMAs of the gradient, loss and product, and of the squared
            gradient, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if one differs
            between parameter groups.
        ExtraArgumentError: If `update` is not given `value`.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024,
        Algorithm 2. https://arxiv.org/abs/2305.07583
    """

    lr: Scalar = 1e-2
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        super().__post_init__()

    def init_tensor(self, p: Tensor) -> MomoSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return MomoSlots(zeros, zeros.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {"weights": (1 - b1, 1 - b2), "correction": bias_correction(b2, step)}

    def share(self, s: Scalars, memory: MomoMemory) -> Any:
        return 1 - exact(s.betas[0])

    def moments(self, g: Tensor, slots: MomoSlots, s: Scalars) -> tuple[Tensor, Any, Tensor | None]:
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, g * g, s.weights[1])
        return exp_avg, exp_avg_sq, sqrt(exp_avg_sq / s.correction) + s.eps
