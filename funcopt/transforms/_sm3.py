"""SM3: Adagrad with one number for each index of each dimension."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix
from ..typing import Memory, Scalar, Slots


class Sm3Slots(NamedTuple):
    """The slots of SM3."""

    exp_avg: Tensor  # like p: EMA of the normalized gradient
    accumulators: tuple[Tensor, ...]  # for each dimension, of length 1 in all others


class scale_by_sm3(TensorRule):
    """Divides the gradient by a bound of the root of all its squares, then averages the quotient.

    For a gradient g with the index (i, j, ...), and an accumulator a, b, ... for each dimension:

        v = min(a_i, b_j, ...) + g^2,   or beta2 min(...) + (1 - beta2) g^2 with `beta2`
        a_i <- max of v over all entries with this i, b_j with this j, ...
        exp_avg <- momentum exp_avg + (1 - momentum) g / sqrt(v + eps)
        u = exp_avg

    where v is 0, g / sqrt(v + eps) is too. The same as in Optax. A vector has a number for each
    entry: that is Adagrad.

    u has no unit. Shapes: any. Memory: one slot like the parameter, and n + m + ... numbers instead
    of n m .... Dtypes: slots in `state_dtype`, else in that of the parameter. On shards the
    gradient is gathered, and the accumulators are whole on every rank.

    Args:
        momentum: Decay rate of the EMA of the normalized gradient, in [0, 1).
        beta2: Decay rate of the accumulators, in [0, 1); `None` for sums.
        eps: Added inside the root, in units of the gradient squared; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.
        LeafError: If a parameter is complex.

    References:
        Anil et al., "Memory-Efficient Adaptive Optimization", NeurIPS 2019, SM3-II.
        https://arxiv.org/abs/1901.11150
    """

    momentum: Scalar = 0.9
    beta2: Scalar | None = None
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        if self.beta2 is not None:
            checks.in_unit_interval(self, "beta2", self.beta2)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> Sm3Slots:
        dtype = self.state_dtype or p.dtype
        shapes = [
            [n if i == dim else 1 for i, n in enumerate(p.shape)] for dim in range(max(p.dim(), 1))
        ]
        each = (torch.zeros(shape, dtype=dtype, device=p.device) for shape in shapes)
        return Sm3Slots(torch.zeros_like(p, dtype=dtype), tuple(each))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        sums = self.beta2 is None
        kept, of_square = (1.0, 1.0) if sums else (self.beta2, 1 - self.beta2)
        return {"kept": kept, "of_square": of_square, "weight": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: Sm3Slots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        first, *others = slots.accumulators
        least = first
        for other in others:
            least = torch.minimum(least, other)
        v = s.of_square * (g * g) + s.kept * least
        known = v > 0
        n = torch.where(known, g * torch.where(known, v + s.eps, 1.0).rsqrt(), 0.0)
        exp_avg = mix(slots.exp_avg, n, s.weight)
        greatest = tuple(_max_over_others(v, dim) for dim in range(max(g.dim(), 1)))
        return exp_avg.clone(), Sm3Slots(exp_avg, greatest)


def _max_over_others(v: Tensor, dim: int) -> Tensor:
    """The maximum over all dimensions but one, which stay with length 1; 0 if there is nothing."""
    dims = [i for i in range(v.dim()) if i != dim]
    if not dims:
        return v.clone()
    if not all(v.shape[i] for i in dims):
        return v.sum(dims, keepdim=True)
    return v.amax(dims, keepdim=True)
