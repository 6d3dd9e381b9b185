"""Linear and polynomial schedules."""

from typing import Any

from .._core import checks
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, progress, straight


class linear_schedule(ScheduleRecord):
    """Linear from `init_value` to `end_value`, then constant.

    With x = (step - transition_begin) / transition_steps, not below 0 nor above 1:

        init_value + (end_value - init_value) x

    The same as Optax's `linear_schedule`, and as `torch.optim.lr_scheduler.LinearLR` with
    ``init_value = lr start_factor`` and ``end_value = lr end_factor``.

    Args:
        init_value: The value up to step `transition_begin`.
        end_value: The value from step ``transition_begin + transition_steps`` on.
        transition_steps: Steps of the transition; positive.
        transition_begin: Steps before the transition starts; not negative.

    Raises:
        HyperparameterError: If a length is out of range.
    """

    init_value: Scalar
    end_value: Scalar
    transition_steps: Length
    transition_begin: Length = 0

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.number(self, "end_value", self.end_value)
        checks.steps(self, "transition_steps", self.transition_steps)
        checks.length(self, "transition_begin", self.transition_begin)

    def __call__(self, step: Any) -> Any:
        step, start, end = evaluated(step, self.init_value, self.end_value)
        x = progress(step, self.transition_begin, self.transition_steps)
        return between(start, end, straight(x))


class polynomial_schedule(ScheduleRecord):
    """Polynomial from `init_value` to `end_value`, then constant.

    With x = (step - transition_begin) / transition_steps, not below 0 nor above 1:

        end_value + (init_value - end_value) (1 - x)^power

    The same as Optax's `polynomial_schedule`, and at ``end_value = 0`` as
    `torch.optim.lr_scheduler.PolynomialLR`.

    Args:
        init_value: The value up to step `transition_begin`.
        end_value: The value from step ``transition_begin + transition_steps`` on.
        power: Above 1 the transition starts steep and ends flat, below 1 the reverse; positive.
        transition_steps: Steps of the transition; positive.
        transition_begin: Steps before the transition starts; not negative.

    Raises:
        HyperparameterError: If `power` or a length is out of range.
    """

    init_value: Scalar
    end_value: Scalar
    power: Scalar
    transition_steps: Length
    transition_begin: Length = 0

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.number(self, "end_value", self.end_value)
        checks.positive(self, "power", self.power)
        checks.steps(self, "transition_steps", self.transition_steps)
        checks.length(self, "transition_begin", self.transition_begin)

    def __call__(self, step: Any) -> Any:
        step, start, end, power = evaluated(step, self.init_value, self.end_value, self.power)
        x = progress(step, self.transition_begin, self.transition_steps)
        return between(start, end, straight(x) ** power)
