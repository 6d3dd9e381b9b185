"""Schedules with a linear warm-up."""

from collections.abc import Callable
from typing import Any, Literal

import torch

from .._core import checks
from .._numerics.scalars import exact, where
from ..errors import HyperparameterError
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._cosine import cosine_decay_schedule
from ._shape import (
    between,
    evaluated,
    half_cosine,
    one_minus_root,
    one_minus_square,
    progress,
    root_of_rest,
    straight,
)

_FALLS = {
    "linear": straight,
    "cosine": half_cosine,
    "1-sqrt": one_minus_root,
    "1-square": one_minus_square,
}
_LEFT = {"linear": straight, "cosine": half_cosine, "1-sqrt": root_of_rest}
"""By the kind of a warm-up, the share that its start still has."""


class warmup_cosine_decay_schedule(ScheduleRecord):
    """Linear warm-up to `peak_value`, then cosine decay to `end_value`.

        linear_schedule(init_value, peak_value, warmup_steps)(step)   while step < warmup_steps
        cosine_decay_schedule(peak_value, decay_steps - warmup_steps, end_value)(
            step - warmup_steps)                                      from then on

    The same as Optax's `warmup_cosine_decay_schedule`. With an `init_value` of 0, the first step
    changes nothing.

    Args:
        init_value: The value at step 0.
        peak_value: The value at step `warmup_steps`.
        warmup_steps: Steps of the warm-up; 0 for none.
        decay_steps: Steps of warm-up and decay together; more than `warmup_steps`.
        end_value: The value from then on.

    Raises:
        HyperparameterError: If a length is out of range.

    References:
        Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, for the
        warm-up. https://arxiv.org/abs/1706.02677
    """

    init_value: Scalar
    peak_value: Scalar
    warmup_steps: Length
    decay_steps: Length
    end_value: Scalar = 0.0

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.number(self, "peak_value", self.peak_value)
        checks.length(self, "warmup_steps", self.warmup_steps)
        checks.steps(self, "decay_steps", self.decay_steps)
        checks.number(self, "end_value", self.end_value)
        lengths = (self.decay_steps, self.warmup_steps)
        if not any(map(torch.is_tensor, lengths)) and self.decay_steps <= self.warmup_steps:
            raise HyperparameterError(
                "`warmup_cosine_decay_schedule`: `decay_steps` must be more than "
                "`warmup_steps`, which it "
                f"includes, got {self.decay_steps} and {self.warmup_steps}."
            )

    def __call__(self, step: Any) -> Any:
        step, start, peak, end = evaluated(step, self.init_value, self.peak_value, self.end_value)
        warmup = exact(self.warmup_steps)
        decay = cosine_decay_schedule(peak, self.decay_steps - warmup, end)
        return warmed_up(step, start, peak, warmup, decay(step - warmup))


class warmup_stable_decay_schedule(ScheduleRecord):
    """Warmup-stable-decay (WSD): warm-up to `peak_value`, constant, then decay to `end_value`.

        init_value + (peak_value - init_value) w(step / warmup_steps)   while step < warmup_steps
        end_value + (peak_value - end_value) f(x)                       from then on

    with x = (step - warmup_steps - stable_steps) / decay_steps, not below 0 nor above 1, and f(x)

        1 - x               for decay_type "linear"
        (1 + cos(pi x)) / 2 for decay_type "cosine"
        1 - sqrt(x)         for decay_type "1-sqrt"
        1 - x^2             for decay_type "1-square"

    and w(y) = f(1 - y), with the f of `warmup_type`: y, (1 - cos(pi y)) / 2, or 1 - sqrt(1 - y).

    Unlike a cosine, it does not depend on the length of the training: the decay can start from any
    checkpoint of the stable phase. With ``end_value = init_value`` it is `get_wsd_schedule` of
    Transformers. Hägele et al. find "1-sqrt" better than "linear". MiniCPM decays
    exponentially: for that, `join_schedules` with `exponential_decay`.

    Args:
        peak_value: The value of the stable phase.
        warmup_steps: Steps of the warm-up; 0 for none.
        stable_steps: Steps of the stable phase; not negative.
        decay_steps: Steps of the decay; positive.
        init_value: The value at step 0. At 0 the first step changes nothing.
        end_value: The value at the end, and from then on.
        decay_type: ``"linear"``, ``"cosine"``, ``"1-sqrt"`` or ``"1-square"``.
        warmup_type: ``"linear"``, ``"cosine"`` or ``"1-sqrt"``.

    Raises:
        HyperparameterError: If a length is out of range, or a type is unknown.

    References:
        Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training
        Strategies", 2024, Section 4. https://arxiv.org/abs/2404.06395. Hägele et al., "Scaling Laws
        and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024.
        https://arxiv.org/abs/2405.18392
    """

    peak_value: Scalar
    warmup_steps: Length
    stable_steps: Length
    decay_steps: Length
    init_value: Scalar = 0.0
    end_value: Scalar = 0.0
    decay_type: Literal["linear", "cosine", "1-sqrt", "1-square"] = "linear"
    warmup_type: Literal["linear", "cosine", "1-sqrt"] = "linear"

    def __post_init__(self) -> None:
        checks.number(self, "peak_value", self.peak_value)
        checks.length(self, "warmup_steps", self.warmup_steps)
        checks.length(self, "stable_steps", self.stable_steps)
        checks.steps(self, "decay_steps", self.decay_steps)
        checks.number(self, "init_value", self.init_value)
        checks.number(self, "end_value", self.end_value)
        checks.choice(self, "decay_type", self.decay_type, _FALLS)
        checks.choice(self, "warmup_type", self.warmup_type, _LEFT)

    def __call__(self, step: Any) -> Any:
        step, start, peak, end = evaluated(step, self.init_value, self.peak_value, self.end_value)
        x = progress(step, exact(self.warmup_steps) + exact(self.stable_steps), self.decay_steps)
        decay = between(peak, end, _FALLS[self.decay_type](x))
        left = _LEFT[self.warmup_type]
        return warmed_up(step, start, peak, self.warmup_steps, decay, left)


def warmed_up(
    step: Any,
    start: Any,
    peak: Any,
    steps: Length,
    later: Any,
    left: Callable[[Any], Any] = straight,
) -> Any:
    """`later`, after a warm-up from `start` to `peak` in the first `steps` steps.

    What is `left` of the start depends on the fraction that has passed.
    """
    if not isinstance(steps, torch.Tensor) and steps == 0:
        return later
    x = progress(step, 0, where(steps == 0, 1, steps))  # a tensor may be 0
    warm = between(start, peak, left(x))
    return where(steps == 0, later, where(step < steps, warm, later))
