"""The trust ratio of LAMB and LARS."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Memory, Scalar, Slots


class Lengths(NamedTuple):
    """The measurement of one tensor."""

    of_p: Tensor  # (): the sum of the squares of its parameter
    of_g: Tensor  # (): the sum of the squares of its update


class scale_by_trust_ratio(TensorRule):
    """Scales the update of each tensor by a trust ratio: to a norm proportional to its parameter's.

        ratio = trust_coefficient max(norm(p), min_norm) / (max(norm(g), min_norm) + eps)
        u = g ratio,   but u = g if one of the lengths is zero

    with ``norm(x) = sqrt(sum of the squares)`` over all entries of the tensor, as in Optax. u has
    the unit of the parameter. Biases and norms are usually excluded:
    ``masked(scale_by_trust_ratio(), lambda name, p: p.ndim > 1)``. Shapes: any; on shards the sums
    are over all of the tensor.

    Args:
        min_norm: Lower bound of both norms; not negative.
        trust_coefficient: Ratio of the norms of update and parameter; not negative.
        eps: Added to the norm of the update, in its units; not negative. By default nothing is.

    Raises:
        HyperparameterError: If a hyperparameter is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        You et al., "Large Batch Training of Convolutional Networks", 2017.
        https://arxiv.org/abs/1708.03888. You et al., "Large Batch Optimization for Deep Learning:
        Training BERT in 76 minutes", ICLR 2020. https://arxiv.org/abs/1904.00962
    """

    min_norm: Scalar = 0.0
    trust_coefficient: Scalar = 1.0
    eps: Scalar | None = None
    elementwise = True
    needs_params = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.non_negative(self, "min_norm", self.min_norm)
        checks.non_negative(self, "trust_coefficient", self.trust_coefficient)
        if self.eps is not None:
            checks.non_negative(self, "eps", self.eps)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Lengths:
        return Lengths(p.square().sum(), g.square().sum())

    def conclude(self, s: Scalars, memory: Memory, total: Lengths) -> tuple[dict[str, Any], Memory]:
        of_p, of_g = (sqrt(x) for x in total)
        of_p, of_g = (torch.where(x > s.min_norm, x, s.min_norm) for x in (of_p, of_g))
        zero = (of_p == 0) | (of_g == 0)
        length = of_g if self.eps is None else of_g + s.eps
        # Where it is not used, nothing must be divided by 0: its derivative would be NaN.
        ratio = s.trust_coefficient * of_p / torch.where(zero, 1.0, length)
        return {"ratio": torch.where(zero, 1.0, ratio)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.ratio, slots
