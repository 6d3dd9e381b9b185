"""Exponential decay: smooth, in equal intervals, or at milestones."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, floor, power, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import evaluated


class exponential_decay(ScheduleRecord):
    """Exponential decay: multiplies by `decay_rate` over every `transition_steps` steps.

    With x = (step - transition_begin) / transition_steps, not below 0, and rounded down with
    `staircase`:

        init_value decay_rate^x

    but not beyond `end_value`: not below it if ``decay_rate < 1``, else not above it. The same as
    Optax's `exponential_decay`, and at ``transition_steps = 1`` as
    `torch.optim.lr_scheduler.ExponentialLR`.

    Args:
        init_value: The value up to step `transition_begin`.
        transition_steps: Steps over which the factor is reached; positive.
        decay_rate: The factor; positive. Above 1 the values grow.
        transition_begin: Steps before the decay starts; not negative.
        staircase: Multiply once every `transition_steps` steps, and not in between.
        end_value: The value to stop at, if any.

    Raises:
        HyperparameterError: If `decay_rate` or a length is out of range.
    """

    init_value: Scalar
    transition_steps: Length
    decay_rate: Scalar
    transition_begin: Length = 0
    staircase: bool = False
    end_value: Scalar | None = None
    drawn_lengths = 4

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.steps(self, "transition_steps", self.transition_steps)
        checks.positive(self, "decay_rate", self.decay_rate)
        checks.length(self, "transition_begin", self.transition_begin)
        if self.end_value is not None:
            checks.number(self, "end_value", self.end_value)

    def __call__(self, step: Any) -> Any:
        step, start, rate = evaluated(step, self.init_value, self.decay_rate)
        begin, steps = exact(self.transition_begin), exact(self.transition_steps)
        x = clamp((step - begin) / steps, 0.0, math.inf)
        x = floor(x) if self.staircase else x
        value = start * power(rate, x)
        if self.end_value is None:
            return value
        _, end = evaluated(step, self.end_value)
        beyond = where(rate < 1, -1.0, 1.0) * (value - end) > 0
        # Again, for the derivative: far beyond the end the power is infinite, or its derivative is.
        return where(beyond, end, start * power(rate, where(beyond, 0.0, x)))


class step_decay_schedule(ScheduleRecord):
    """Multiplies by `gamma` every `step_size` steps.

        init_value gamma^floor(step / step_size)

    The same as `torch.optim.lr_scheduler.StepLR`.

    Args:
        init_value: The value at step 0.
        step_size: Steps from one multiplication to the next; positive.
        gamma: The factor; positive.

    Raises:
        HyperparameterError: If `step_size` or `gamma` is not positive.
    """

    init_value: Scalar
    step_size: Length
    gamma: Scalar = 0.1
    drawn_lengths = 4

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.steps(self, "step_size", self.step_size)
        checks.positive(self, "gamma", self.gamma)

    def __call__(self, step: Any) -> Any:
        return exponential_decay(self.init_value, self.step_size, self.gamma, staircase=True)(step)


class multi_step_decay_schedule(ScheduleRecord):
    """Multiplies by `gamma` at each milestone.

        init_value gamma^(number of milestones <= step)

    The same as `torch.optim.lr_scheduler.MultiStepLR`.

    Args:
        init_value: The value before the first milestone.
        milestones: The steps with a new value, in ascending order; a repeated one multiplies twice.
        gamma: The factor; positive.

    Raises:
        HyperparameterError: If the milestones are not integers in ascending order, or `gamma` is
            not positive.
    """

    init_value: Scalar
    milestones: tuple[Length, ...]
    gamma: Scalar = 0.1

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.boundaries(self, "milestones", self.milestones)
        checks.positive(self, "gamma", self.gamma)

    def __call__(self, step: Any) -> Any:
        step, start, gamma = evaluated(step, self.init_value, self.gamma)
        passed = (where(step >= milestone, 1.0, 0.0) for milestone in self.milestones)
        return start * power(gamma, sum(passed, 0.0 * step))
