"""Gradient clipping: by value, by global norm, and by the norm of each tensor."""

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
        clip_value: Upper bound of the absolute value of an entry, in units of the gradient;
            positive.

    Raises:
        HyperparameterError: If `clip_value` is not positive.
    """

    clip_value: Scalar
    elementwise = True

    def __post_init__(self) -> None:
        checks.positive(self, "clip_value", self.clip_value)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g.clamp(-s.clip_value, s.clip_value), slots


class _clip_by_norm(TensorRule):
    """Rescales updates by a norm that is measured: of all tensors, or of each one."""

    max_norm: Scalar
    eps: float = 1e-6
    elementwise = True

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


class clip_by_global_norm(_clip_by_norm):
    """Rescales the updates so that their global norm is at most `max_norm`.

        norm = sqrt(sum of squares over all entries of all tensors)
        u    = g min(1, max_norm / (norm + eps))

    The same as `torch.nn.utils.clip_grad_norm_`, over all tensors of the stage: parameters without
    a gradient are left out, and parameter groups are clipped together. The norm is computed in at
    least float32. A gradient with NaN or infinite entries is not repaired, as in torch.
    `Optimizer.metrics()` shows the norm before clipping as ``grad_norm``, and ``clip_factor``.

    Args:
        max_norm: Upper bound of the global norm, in units of the gradient; positive.
        eps: Added to the norm in the denominator, in units of the gradient; not negative. At 0 a
            clipped norm is exactly `max_norm`, as in Optax. It is not a hyperparameter: `eps` of a
            chain is Adam's.

    Raises:
        HyperparameterError: If `max_norm` is not positive, or `eps` is negative.

    References:
        Pascanu et al., "On the difficulty of training Recurrent Neural Networks", ICML 2013.
        https://arxiv.org/abs/1211.5063
    """

    metrics = ("grad_norm", "clip_factor")


class clip_by_block_norm(_clip_by_norm):
    """Rescales the update of each tensor so that its norm is at most `max_norm`.

        norm = sqrt(sum of squares over all entries of the tensor)
        u    = g min(1, max_norm / (norm + eps))

    The same as `torch.nn.utils.clip_grad_norm_` of each parameter by itself. With ``eps = 0`` it is
    `clipnorm` of Keras. Shapes: any; on shards the norm is that of all of the tensor.

    Args:
        max_norm: Upper bound of the norm of one tensor, in units of the gradient; positive.
        eps: Added to the norm in the denominator, in units of the gradient; not negative. It is not
            a hyperparameter, as in `clip_by_global_norm`.

    Raises:
        HyperparameterError: If `max_norm` is not positive, or `eps` is negative.
    """

    measure_per = "tensor"


class normalize_by_update_norm(TensorRule):
    """Divides the updates by their global norm.

        norm = sqrt(sum of squares over all entries of all tensors)
        u    = scale_factor g / (norm + eps)

    Unlike `clip_by_global_norm`, it lengthens short updates too. The same as in Optax. Updates that
    are all zero stay zero.

    Args:
        scale_factor: The norm of the updates afterwards, but for `eps`; positive.
        eps: Added to the norm, in units of the gradient; positive.

    Raises:
        HyperparameterError: If a hyperparameter is not positive.
    """

    scale_factor: Scalar = 1.0
    eps: Scalar = 1e-6
    elementwise = True

    def __post_init__(self) -> None:
        checks.positive(self, "scale_factor", self.scale_factor)
        checks.positive(self, "eps", self.eps)

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(self, s: Scalars, memory: Memory, total: Tensor) -> tuple[dict[str, Any], Memory]:
        return {"factor": s.scale_factor / (sqrt(total) + s.eps)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.factor, slots
