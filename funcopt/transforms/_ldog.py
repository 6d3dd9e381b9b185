"""DoG with a learning rate for each tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Memory, Scalar, Slots
from ._dog import DogTotals


class LdogSlots(NamedTuple):
    """The slots of LDoG."""

    p0: Tensor  # like p: the initial parameters
    max_dist: Tensor  # (): the largest distance from them so far
    grad_squares: Tensor  # (): the sum of the squared norms of the gradients


class scale_by_ldog(TensorRule):
    """Multiplies each update by a distance over the norm of its gradients (layer-wise DoG).

    The formula of `scale_by_dog` for each tensor by itself, with norms over one tensor:

        max_dist     <- max(max_dist, norm(p - p0), reps_rel (1 + norm(p0)))
        grad_squares <- grad_squares + norm(g)^2
        u = g max_dist / sqrt(grad_squares + eps)

    The same as `optax.scale_by_distance_over_gradients`. u is a whole step, in units of the
    parameter: `lr` of `ldog` stays at 1.

    Shapes: any; on shards the norms are those of all of the tensor. Dtypes: p0, a copy of the
    initial parameters, has that of the parameter; both numbers are stored in at least float32.

    Args:
        reps_rel: The initial distance, relative to 1 + norm(p0); positive, and rather too small.
            The authors take 1e-4 for models with batch normalization.
        eps: Added to the sum of the squares, in units of the gradient squared; positive.

    Raises:
        HyperparameterError: If a hyperparameter is not positive.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Ivgi et al., "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", ICML
        2023, section 3.3. https://arxiv.org/abs/2302.12022
    """

    reps_rel: Scalar = 1e-6
    eps: Scalar = 1e-8
    elementwise = True
    needs_params = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.positive(self, "reps_rel", self.reps_rel)
        checks.positive(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> LdogSlots:
        dtype = torch.promote_types(p.dtype, torch.float32)
        zero = torch.zeros((), dtype=dtype, device=p.device)
        return LdogSlots(p.clone(), zero, zero.clone())

    def measure_tensor(self, g: Tensor, slots: LdogSlots, p: Tensor, s: Scalars) -> DogTotals:
        squares = (p - slots.p0).square().sum(), slots.p0.square().sum(), g.square().sum()
        return DogTotals(*squares)

    def conclude(
        self, s: Scalars, memory: Memory, total: DogTotals
    ) -> tuple[dict[str, Any], Memory]:
        least = s.reps_rel * (1 + sqrt(total.begun))
        return {"dist": torch.maximum(sqrt(total.moved), least), "square": total.squares}, memory

    def update_tensor(
        self, g: Tensor, slots: LdogSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        max_dist = torch.maximum(slots.max_dist, s.dist)
        grad_squares = slots.grad_squares + s.square
        u = g * (max_dist / sqrt(grad_squares + s.eps))
        return u, LdogSlots(slots.p0, max_dist, grad_squares)
