"""Distance over gradients: the learning rate is a distance divided by a norm of gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Memory, Scalar, Slots
from ._distance import begun


class DogSlots(NamedTuple):
    """The slots of DoG and DoWG."""

    p0: Tensor  # like p: the initial parameters


class DogMemory(NamedTuple):
    """The shared scalars of DoG, of all tensors together."""

    max_dist: Tensor  # (): the largest distance from the initial parameters so far
    grad_squares: Tensor  # (): the sum of the squared norms of the gradients


class DowgMemory(NamedTuple):
    """The shared scalars of DoWG, of all tensors together."""

    sq_dist: Tensor  # (): the square of the largest distance so far
    weighted_squares: Tensor  # (): the sum of the squared norms of gradients, times sq_dist


class DogTotals(NamedTuple):
    """The sums over all tensors."""

    moved: Tensor  # (): of the squares of p - p0
    begun: Tensor  # (): of the squares of p0
    squares: Tensor  # (): of the squares of g


class _distance_over_gradients(TensorRule):
    """What DoG and DoWG share: three sums, and one factor for all tensors."""

    elementwise = True
    needs_params = True
    memory_per = "tree"
    metrics = ("eta",)

    def init_tensor(self, p: Tensor) -> DogSlots:
        return DogSlots(p.clone())

    def measure_tensor(self, g: Tensor, slots: DogSlots, p: Tensor, s: Scalars) -> DogTotals:
        squares = (p - slots.p0).square().sum(), slots.p0.square().sum(), g.square().sum()
        return DogTotals(*squares)

    def update_tensor(
        self, g: Tensor, slots: DogSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        return s.eta * g, slots


class scale_by_dog(_distance_over_gradients):
    """Multiplies the updates by a distance over the norm of all gradients (DoG).

    At step t = 1, 2, ..., for a gradient g, with norms over all tensors:

        max_dist     <- max(max_dist, norm(p - p0), reps_rel (1 + norm(p0)))
        grad_squares <- grad_squares + norm(g)^2
        eta = max_dist / sqrt(grad_squares + eps)
        u = eta g

    The norms are over all tensors, parameter groups and ranks, and eta is one for all. It is in
    units of the parameter per unit of the gradient, so u is a whole step: `lr` of `dog` stays at
    1. The authors evaluate an average of the parameters, such as that of `ema_of_params`.

    Shapes: any. Dtypes: p0, a copy of the initial parameters, has that of the parameter; the shared
    scalars are in float64, where the device has it. `Optimizer.metrics()` shows ``eta``.

    Args:
        reps_rel: The initial distance, relative to 1 + norm(p0); positive, and rather too small.
            The authors take 1e-4 for models with batch normalization.
        eps: Added to the sum of the squares, in units of the gradient squared; positive.

    Raises:
        HyperparameterError: If a hyperparameter is not positive; at the step, if one differs
            between parameter groups.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Ivgi et al., "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", ICML
        2023. https://arxiv.org/abs/2302.12022
    """

    reps_rel: Scalar = 1e-6
    eps: Scalar = 1e-8

    def __post_init__(self) -> None:
        checks.positive(self, "reps_rel", self.reps_rel)
        checks.positive(self, "eps", self.eps)

    def init_memory(self, like: Tensor) -> DogMemory:
        return DogMemory(begun(like, 0.0), begun(like, 0.0))

    def conclude(
        self, s: Scalars, memory: DogMemory, total: DogTotals
    ) -> tuple[dict[str, Any], Memory]:
        least = s.reps_rel * (1 + sqrt(total.begun))
        max_dist = torch.maximum(memory.max_dist, torch.maximum(sqrt(total.moved), least))
        grad_squares = memory.grad_squares + total.squares
        dtype = memory.max_dist.dtype
        after = DogMemory(max_dist.to(dtype), grad_squares.to(dtype))
        return {"eta": max_dist / sqrt(grad_squares + s.eps)}, after


class scale_by_dowg(_distance_over_gradients):
    """Multiplies the updates by a squared distance over the norm of weighted gradients (DoWG).

    At step t = 1, 2, ..., for a gradient g, with norms over all tensors, and ``sq_dist = eps``, or
    the square of `init_dist`, in the beginning:

        sq_dist          <- max(sq_dist, norm(p - p0)^2)
        weighted_squares <- weighted_squares + sq_dist norm(g)^2
        eta = sq_dist / (sqrt(weighted_squares) + eps)
        u = eta g

    Unlike in `scale_by_dog`, later gradients weigh more, since distances grow. eta is one for all
    tensors, parameter groups and ranks, in units of the parameter per unit of the gradient.

    Shapes: any. Dtypes: p0, a copy of the initial parameters, has that of the parameter; the shared
    scalars are in float64, where the device has it. `Optimizer.metrics()` shows ``eta``.

    Args:
        init_dist: The initial distance, in units of the parameter; positive. With `None`, it is the
            root of `eps`. Read by `init`.
        eps: Added to the root of the sum of the weighted squares; positive.

    Raises:
        HyperparameterError: If a hyperparameter is not positive; at the step, if one differs
            between parameter groups.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Khaled et al., "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient Descent
        Method", NeurIPS 2023. https://arxiv.org/abs/2305.16284
    """

    init_dist: Scalar | None = None
    eps: Scalar = 1e-4

    def __post_init__(self) -> None:
        checks.positive(self, "eps", self.eps)
        checks.fixed(self, "eps", self.eps)
        if self.init_dist is not None:
            checks.fixed(self, "init_dist", self.init_dist)
            checks.positive(self, "init_dist", self.init_dist)

    def init_memory(self, like: Tensor) -> DowgMemory:
        least = self.eps if self.init_dist is None else self.init_dist * self.init_dist
        return DowgMemory(begun(like, least), begun(like, 0.0))

    def conclude(
        self, s: Scalars, memory: DowgMemory, total: DogTotals
    ) -> tuple[dict[str, Any], Memory]:
        sq_dist = torch.maximum(memory.sq_dist, total.moved)
        weighted_squares = memory.weighted_squares + sq_dist * total.squares
        dtype = memory.sq_dist.dtype
        after = DowgMemory(sq_dist.to(dtype), weighted_squares.to(dtype))
        return {"eta": sq_dist / (sqrt(weighted_squares) + s.eps)}, after
