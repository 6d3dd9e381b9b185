"""Clipping by the z-score of the gradient norm among the norms of earlier steps."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import shortening, sqrt, where
from ..typing import Memory, Scalar, Slots
from ._distance import begun


class ZclipMemory(NamedTuple):
    """The shared scalars of `clip_by_zscore`."""

    number: Tensor  # (): how many norms there have been
    mean: Tensor  # (): of the norms
    variance: Tensor  # (): of the norms


class clip_by_zscore(TensorRule):
    """Rescales the updates where their global norm is an outlier among those so far (ZClip).

    In the first `warmup` steps, mean and variance are those of the norms so far, and nothing is
    clipped but by `max_norm`. After them, for the norm n of all tensors, and std = sqrt(variance):

        z = (n - mean) / (std + eps)
        most = n                              if z <= threshold, else
             = mean + threshold^2 std / z     with option "adaptive"
             = mean                           with option "mean"
        u = g min(1, min(most, max_norm) / (n + 1e-6))
        mean     <- decay mean + (1 - decay) most
        variance <- decay variance + (1 - decay) (most - mean)^2

    The larger an outlier, the nearer to the mean it is clipped. mean and variance are of norms as
    they are clipped by z-score, so that spikes do not raise them. A norm that is not finite leaves
    them as they are; `skip_if` leaves out its step.

    The norm is over all tensors of the stage, parameter groups and ranks, as in
    `clip_by_global_norm`. `Optimizer.metrics()` shows it before clipping as ``grad_norm``, and
    ``clip_factor``.

    Args:
        threshold: z-score threshold; positive.
        decay: Decay rate of the mean and variance, in [0, 1).
        max_norm: Upper bound of the norm in all steps, in units of the gradient; positive. `None`
            for none.
        eps: Added to std in the z-score, in units of the gradient; positive.
        warmup: Steps before norms are clipped by z-score; at least 1.
        option: What an outlier is clipped to: ``"adaptive"`` or ``"mean"``.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; at the step, if one differs
            between parameter groups.

    References:
        Kumar et al., "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", 2025,
        Algorithm 1. https://arxiv.org/abs/2504.02507
    """

    threshold: Scalar = 2.5
    decay: Scalar = 0.97
    max_norm: Scalar | None = 1.0
    eps: Scalar = 1e-6
    warmup: int = 25
    option: Literal["adaptive", "mean"] = "adaptive"
    elementwise = True
    memory_per = "tree"
    metrics = ("grad_norm", "clip_factor")

    def __post_init__(self) -> None:
        checks.positive(self, "threshold", self.threshold)
        checks.in_unit_interval(self, "decay", self.decay)
        if self.max_norm is not None:
            checks.positive(self, "max_norm", self.max_norm)
        checks.positive(self, "eps", self.eps)
        checks.whole_number(self, "warmup", self.warmup, least=1)
        checks.choice(self, "option", self.option, ("adaptive", "mean"))

    def init_memory(self, like: Tensor) -> ZclipMemory:
        return ZclipMemory(*(begun(like, 0.0) for _ in range(3)))

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(
        self, s: Scalars, memory: ZclipMemory, total: Tensor
    ) -> tuple[dict[str, Any], Memory]:
        norm = sqrt(total)
        n = norm.to(memory.mean.dtype)
        begins = memory.number < self.warmup
        std = sqrt(memory.variance)
        z = (n - memory.mean) / (std + s.eps)
        spike = (memory.number >= self.warmup) & (z > s.threshold)
        less = memory.mean
        if self.option == "adaptive":
            less = less + s.threshold * s.threshold * std / torch.where(spike, z, 1.0)
        most = torch.where(spike, less, n)
        factor = torch.where(spike, shortening(n, most, 1e-6), 1.0)
        if s.max_norm is not None:
            factor = torch.minimum(factor, shortening(n, s.max_norm, 1e-6))
        # Welford's recurrence during the warm-up, then the moving averages.
        number = memory.number + 1
        weight = where(begins, 1 / number, 1 - s.decay)
        mean = memory.mean + weight * (most - memory.mean)
        apart = (most - mean) * (most - where(begins, memory.mean, mean))
        variance = memory.variance + weight * (apart - memory.variance)
        known = n < torch.inf  # not where it is NaN, either
        each = zip((number, mean, variance), memory, strict=True)
        after = ZclipMemory(*(torch.where(known, new, old) for new, old in each))
        return {"grad_norm": norm, "clip_factor": factor.to(norm.dtype)}, after

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.clip_factor, slots
