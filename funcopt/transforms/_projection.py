"""Last stages that keep the parameters in a set: the step ends at its nearest point."""

import math
from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import shortening, sqrt
from ..typing import Memory, Scalar, Slots


class _projection(TensorRule):
    """Changes the final update so that it leads into the set."""

    needs_params = True
    comes_last = True


class project_onto_box(_projection):
    """Keeps every entry of the parameters between two bounds.

        u <- min(max(p + u, lower), upper) - p

    ``project_onto_box(lower=0.0)`` keeps parameters from being negative, as
    `keep_params_nonnegative` of Optax. It has to be the last stage, after the learning rate, since
    it needs the final update. A bound other than 0 is reached but for the rounding of ``p + u``.

    Shapes: any; on complex tensors, real and imaginary parts are entries.

    Args:
        lower: Lower bound of an entry, in units of the parameter; may be ``-inf``.
        upper: Upper bound; may be ``inf``.

    Raises:
        HyperparameterError: If a bound is not a number, or `lower` is above `upper`.
        MissingParamsError: If `update` is not given the parameters.
    """

    lower: Scalar = -math.inf
    upper: Scalar = math.inf
    elementwise = True

    def __post_init__(self) -> None:
        checks.number(self, "lower", self.lower)
        checks.number(self, "upper", self.upper)
        checks.ascending(self, "(lower, upper)", (self.lower, self.upper))

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return (p + g).clamp(s.lower, s.upper) - p, slots


class project_onto_l2_ball(_projection):
    """Keeps the norm of each parameter tensor at most at a radius.

        u <- min(1, radius / |p + u|) (p + u) - p

    It has to be the last stage, after the learning rate, since it needs the final update. The norm
    is that of one tensor, over all of its entries; on shards, of all of it. Shapes: any.

    Args:
        radius: Upper bound of the norm, in units of the parameter; positive.

    Raises:
        HyperparameterError: If `radius` is not positive.
        MissingParamsError: If `update` is not given the parameters.
    """

    radius: Scalar = 1.0
    elementwise = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.positive(self, "radius", self.radius)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return (p + g).square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Tensor) -> tuple[dict[str, Any], Memory]:
        return {"factor": shortening(sqrt(total), s.radius)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return (p + g) * s.factor - p, slots


class project_onto_simplex(_projection):
    """Keeps the entries of each parameter tensor from being negative, and their sum at `total`.

        u <- max(p + u - theta, 0) - p,   theta such that the entries sum to total

    The nearest point: mixing weights and probabilities that are trained by themselves, without a
    softmax. It has to be the last stage, after the learning rate, since it needs the final update.
    Shapes: any. On shards the tensors are gathered.

    Args:
        total: The sum of the entries, in units of the parameter; positive.

    Raises:
        HyperparameterError: If `total` is not positive.
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Duchi et al., "Efficient Projections onto the l1-Ball for Learning in High Dimensions", ICML
        2008, Figure 1. https://dl.acm.org/doi/10.1145/1390156.1390191
    """

    total: Scalar = 1.0
    elementwise = False
    batched = True

    def __post_init__(self) -> None:
        checks.positive(self, "total", self.total)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        if not p.numel():
            return g.clone(), slots
        aim = p + g
        sizes, _ = aim.flatten().sort(descending=True)
        numbers = torch.arange(1, sizes.numel() + 1, dtype=sizes.dtype, device=sizes.device)
        thresholds = (sizes.cumsum(0) - s.total) / numbers
        last = (sizes > thresholds).sum() - 1
        theta = thresholds.gather(0, last.reshape(1))
        return (aim - theta.reshape([1] * aim.dim())).clamp(min=0.0) - p, slots
