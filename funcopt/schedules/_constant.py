"""A constant schedule."""

from typing import Any

from .._core import checks
from ..typing import Scalar
from ._base import ScheduleRecord
from ._shape import evaluated


class constant_schedule(ScheduleRecord):
    """The same value at every step: a part for `join_schedules`, or a placeholder.

        value

    Args:
        value: The value.

    Raises:
        HyperparameterError: If `value` is not a number.
    """

    value: Scalar

    def __post_init__(self) -> None:
        checks.number(self, "value", self.value)

    def __call__(self, step: Any) -> Any:
        step, value = evaluated(step, self.value)
        return value + 0.0 * step  # a tensor if the step is one
