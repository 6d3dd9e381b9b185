"""The trust ratio of LAMB and LARS, of tensors and of rows."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Memory, Scalar, Slots
from ._adaptive_clipping import norm_of_units


class Lengths(NamedTuple):
    """The measurement of one tensor."""

    of_p: Tensor  # (): the sum of the squares of its parameter
    of_g: Tensor  # (): the sum of the squares of its update


class _trust_ratio(TensorRule):
    """The hyperparameters of trust ratios, and the ratio of two norms."""

    min_norm: Scalar = 0.0
    trust_coefficient: Scalar = 1.0
    eps: Scalar | None = None
    min_ratio: Scalar | None = None
    max_ratio: Scalar | None = None
    needs_params = True

    def __post_init__(self) -> None:
        for name in self.hyperparameters:
            value = getattr(self, name)
            if value is not None or name in ("min_norm", "trust_coefficient"):
                checks.non_negative(self, name, value)

    def _ratio(self, of_p: Tensor, of_g: Tensor, s: Scalars) -> Tensor:
        of_p, of_g = (torch.where(x > s.min_norm, x, s.min_norm) for x in (of_p, of_g))
        zero = (of_p == 0) | (of_g == 0)
        length = of_g if s.eps is None else of_g + s.eps
        # Where it is not used, nothing must be divided by 0: its derivative would be NaN.
        ratio = s.trust_coefficient * of_p / torch.where(zero, 1.0, length)
        if s.min_ratio is not None:
            ratio = torch.where(ratio < s.min_ratio, s.min_ratio, ratio)
        if s.max_ratio is not None:
            ratio = torch.where(ratio > s.max_ratio, s.max_ratio, ratio)
        return torch.where(zero, 1.0, ratio)


class scale_by_trust_ratio(_trust_ratio):
    """Scales the update of each tensor by a trust ratio: to a norm proportional to its parameter's.

        ratio = trust_coefficient max(norm(p), min_norm) / (max(norm(g), min_norm) + eps)
        u = g min(max(ratio, min_ratio), max_ratio),   but u = g if one of the lengths is zero

    with ``norm(x) = sqrt(sum of the squares)`` over all entries of the tensor, as in Optax. u has
    the unit of the parameter. Biases and norms are usually excluded:
    ``masked(scale_by_trust_ratio(), lambda name, p: p.ndim > 1)``. Shapes: any; on shards the sums
    are over all of the tensor.

    The bounds make variants of it. ``max_ratio=1`` only shortens updates: LAMB's clip, and LARC's,
    if the stage comes after `scale_by_learning_rate`. ``min_ratio=1`` only lengthens them, to
    `trust_coefficient` times the parameter: a lower bound of the relative size of updates.

    Args:
        min_norm: Lower bound of both norms; not negative.
        trust_coefficient: Ratio of the norms of update and parameter; not negative.
        eps: Added to the norm of the update, in its units; not negative. By default nothing is.
        min_ratio: Lower bound of the ratio; not negative. By default there is none.
        max_ratio: Upper bound of the ratio; not negative. By default there is none.

    Raises:
        HyperparameterError: If a hyperparameter is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        You et al., "Large Batch Training of Convolutional Networks", 2017.
        https://arxiv.org/abs/1708.03888. You et al., "Large Batch Optimization for Deep Learning:
        Training BERT in 76 minutes", ICLR 2020. https://arxiv.org/abs/1904.00962
    """

    elementwise = True
    measure_per = "tensor"

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Lengths:
        return Lengths(p.square().sum(), g.square().sum())

    def conclude(self, s: Scalars, memory: Memory, total: Lengths) -> tuple[dict[str, Any], Memory]:
        return {"ratio": self._ratio(sqrt(total.of_p), sqrt(total.of_g), s)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.ratio, slots


class scale_by_row_trust_ratio(_trust_ratio):
    """Scales the update of each row by a trust ratio: to a norm proportional to its weights'.

        ratio = trust_coefficient max(norm(p), min_norm) / (max(norm(g), min_norm) + eps)
        u = g min(max(ratio, min_ratio), max_ratio),   but u = g if one of the lengths is zero

    with ``norm(x) = sqrt(sum of the squares)`` over one index of the first dimension: an output of
    `torch.nn.Linear` or of a convolution, in torch's layout. A tensor with at most one dimension
    that is longer than 1, a bias or a gain, is one row. `scale_by_trust_ratio` has the variants
    that the bounds make.

    Shapes: any. On shards the tensors are gathered.

    Args:
        min_norm: Lower bound of both norms; not negative.
        trust_coefficient: Ratio of the norms of update and weights; not negative.
        eps: Added to the norm of the update, in its units; not negative. By default nothing is.
        min_ratio: Lower bound of the ratio; not negative. By default there is none.
        max_ratio: Upper bound of the ratio; not negative. By default there is none.

    Raises:
        HyperparameterError: If a hyperparameter is negative.
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        You et al., "Large Batch Training of Convolutional Networks", 2017, for the ratio of a
        layer. https://arxiv.org/abs/1708.03888
    """

    elementwise = False
    batched = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * self._ratio(norm_of_units(p), norm_of_units(g), s), slots
