"""Clipping and scaling by blocks: each tensor, such as a weight or a bias, is one."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import count, sqrt
from ..typing import Memory, Scalar, Slots


class Squares(NamedTuple):
    """The measurement of one tensor."""

    squares: Tensor  # (): the sum of the squares of its entries
    number: Tensor  # (): how many there are

    @classmethod
    def of(cls, x: Tensor) -> "Squares":
        return cls(x.square().sum(), count(x))

    def rms(self) -> Tensor:
        """The root mean square; 0 for an empty tensor."""
        return sqrt(self.squares / self.number.clamp(min=1.0))


class clip_by_block_rms(TensorRule):
    """Rescales the update of each tensor so that its root mean square is at most `threshold`.

        u = g / max(1, rms(g) / threshold),   rms(g) = sqrt(mean of the squares of its entries)

    The same as in Optax, and as `d` in torch's Adafactor. Shapes: any; on shards the mean is over
    all of the tensor.

    Args:
        threshold: Upper bound of the root mean square, in units of the update; positive.

    Raises:
        HyperparameterError: If `threshold` is not positive.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018, section 6. https://arxiv.org/abs/1804.04235
    """

    threshold: Scalar
    elementwise = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.positive(self, "threshold", self.threshold)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Squares:
        return Squares.of(g)

    def conclude(self, s: Scalars, memory: Memory, total: Squares) -> tuple[dict[str, Any], Memory]:
        return {"divisor": (total.rms() / s.threshold).clamp(min=1.0)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g / s.divisor, slots


class _scale_by_param_block(TensorRule):
    """Multiplies the update of each tensor by the size of its parameter."""

    min_scale: Scalar = 1e-3
    elementwise = True
    needs_params = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.non_negative(self, "min_scale", self.min_scale)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Squares:
        return Squares.of(p)

    def size(self, total: Squares) -> Tensor:
        raise NotImplementedError

    def conclude(self, s: Scalars, memory: Memory, total: Squares) -> tuple[dict[str, Any], Memory]:
        size = self.size(total)
        return {"scale": torch.where(size > s.min_scale, size, s.min_scale)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.scale, slots


class scale_by_param_block_norm(_scale_by_param_block):
    """Multiplies the update of each tensor by the norm of its parameter.

        u = g max(norm(p), min_scale),   norm(p) = sqrt(sum of the squares of its entries)

    The same as in Optax. Shapes: any; on shards the sum is over all of the tensor.

    Args:
        min_scale: Lower bound of the factor, in units of the parameter; not negative. It lets
            parameters that are zero move.

    Raises:
        HyperparameterError: If `min_scale` is negative.
        MissingParamsError: If `update` is not given the parameters.
    """

    def size(self, total: Squares) -> Tensor:
        return sqrt(total.squares)


class scale_by_param_block_rms(_scale_by_param_block):
    """Multiplies the update of each tensor by the root mean square of its parameter.

        u = g max(rms(p), min_scale),   rms(p) = sqrt(mean of the squares of its entries)

    The same as in Optax, and as in torch's Adafactor. Shapes: any; on shards the mean is over all
    of the tensor.

    Args:
        min_scale: Lower bound of the factor, in units of the parameter; not negative. It lets
            parameters that are zero move.

    Raises:
        HyperparameterError: If `min_scale` is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018, section 8. https://arxiv.org/abs/1804.04235
    """

    def size(self, total: Squares) -> Tensor:
        return total.rms()
