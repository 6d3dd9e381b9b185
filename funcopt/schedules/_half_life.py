"""A schedule for decay rates of averages."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import log, power, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, progress, straight


class half_life_schedule(ScheduleRecord):
    """Decay rate whose half-life is linear from that of `init_value` to that of `end_value`.

    The half-life of a decay rate b is log(1/2) / log(b) steps. With
    x = (step - transition_begin) / transition_steps, not below 0 nor above 1:

        exp(1 / ((1 - x) / log(init_value) + x / log(end_value)))

    A decay rate that is linear in the step would reach long half-lives only at its very end:
    halfway from 0.9 to 0.9999, this one is 0.9998. The warm-up of the slow EMA of `ademamix`.

    Args:
        init_value: The decay rate up to step `transition_begin`, in (0, 1).
        end_value: The one from step ``transition_begin + transition_steps`` on, in (0, 1).
        transition_steps: Steps of the transition; positive.
        transition_begin: Steps before the transition starts; not negative.

    Raises:
        HyperparameterError: If a decay rate is outside (0, 1), or a length is out of range.

    References:
        Pagliardini et al., "The AdEMAMix Optimizer: Better, Faster, Older", ICLR 2025, Appendix
        A.1. https://arxiv.org/abs/2409.03137
    """

    init_value: Scalar
    end_value: Scalar
    transition_steps: Length
    transition_begin: Length = 0

    def __post_init__(self) -> None:
        checks.in_open_unit_interval(self, "init_value", self.init_value)
        checks.in_open_unit_interval(self, "end_value", self.end_value)
        checks.steps(self, "transition_steps", self.transition_steps)
        checks.length(self, "transition_begin", self.transition_begin)

    def __call__(self, step: Any) -> Any:
        step, start, end = evaluated(step, self.init_value, self.end_value)
        x = progress(step, self.transition_begin, self.transition_steps)
        inverse = between(1 / log(start), 1 / log(end), straight(x))
        now = power(math.e, 1 / inverse)
        return where(x <= 0, start, where(x >= 1, end, now))  # without the roundings
