"""Keeping updates from being too long."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import shortening, sqrt
from ..typing import Memory, Scalar, Slots


class clip(TensorRule):
    """Clips every entry of the updates to an interval around zero.

        u = min(max(g, -clip_value), clip_value)

    The same as `torch.nn.utils.clip_grad_value_`. Of a complex entry, the real and the imaginary
    part are clipped.

    Args:
        clip_value: The largest entry, in units of the gradient; positive.

    Raises:
        HyperparameterError: If `clip_value` is not positive.
    """

    clip_value: Scalar
    elementwise = True

    def __post_init__(self) -> None:
        checks.positive(self, "clip_value", self.clip_value)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g.clamp(-s.clip_value, s.clip_value), slots


class clip_by_global_norm(TensorRule):
    """Shortens all updates by one factor, so that together they are not longer than `max_norm`.

        norm = sqrt(sum of squares over all entries of all tensors)
        u    = g min(1, max_norm / (norm + eps))

    The same as `torch.nn.utils.clip_grad_norm_`, over all tensors that the stage sees: parameters
    without a gradient count nothing, parameter groups are not clipped apart. The norm is computed
    in at least float32. A gradient with NaN or infinite entries stays useless, as in torch.
    `Optimizer.metrics()` shows the norm before clipping as ``grad_norm``, and ``clip_factor``.

    Args:
        max_norm: The greatest length, in units of the gradient; positive.
        eps: Keeps the division finite, in units of the gradient; not negative. At 0 the length is
            exactly `max_norm`, as in Optax. It is no hyperparameter: `eps` of a chain is Adam's.

    Raises:
        HyperparameterError: If `max_norm` is not positive, or `eps` is negative.

    References:
        Pascanu et al., "On the difficulty of training Recurrent Neural Networks", ICML 2013.
        https://arxiv.org/abs/1211.5063
    """

    max_norm: Scalar
    eps: float = 1e-6
    elementwise = True
    metrics = ("grad_norm", "clip_factor")

    def __post_init__(self) -> None:
        checks.positive(self, "max_norm", self.max_norm)
        checks.structure(self, "eps", self.eps)
        checks.non_negative(self, "eps", self.eps)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[dict[str, Any], Memory]:
        norm = sqrt(total)
        factor = shortening(norm, s.max_norm, self.eps)
        return {"grad_norm": norm, "clip_factor": factor}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.clip_factor, slots
