"""One schedule after another."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, where
from ..errors import HyperparameterError
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import evaluated, like


class join_schedules(ScheduleRecord):
    """One schedule after another, each of which counts the steps from its boundary.

        schedules[0](step)                   while step < boundaries[0]
        schedules[1](step - boundaries[0])   while step < boundaries[1]
        ...

    The same as Optax's `join_schedules`, and as `torch.optim.lr_scheduler.SequentialLR`. No
    part is ever evaluated outside of its own interval, its end included.

    Args:
        schedules: The parts: any functions of a step. A number is a constant part.
        boundaries: The first steps of all parts but the first, in ascending order.

    Raises:
        HyperparameterError: If the boundaries are not integers in ascending order, or not one
            fewer than the schedules.
    """

    schedules: tuple[Scalar, ...]
    boundaries: tuple[Length, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.schedules, (tuple, list)) or not self.schedules:
            raise HyperparameterError(
                f"`join_schedules`: `schedules` must be a tuple of schedules, got "
                f"{self.schedules!r}."
            )
        for i, part in enumerate(self.schedules):
            checks.number(self, f"schedules[{i}]", part)
        checks.boundaries(self, "boundaries", self.boundaries)
        if len(self.boundaries) != len(self.schedules) - 1:
            raise HyperparameterError(
                f"`join_schedules`: between {len(self.schedules)} `schedules` there must be "
                f"{len(self.schedules) - 1} `boundaries`, got {self.boundaries!r}."
            )

    def __call__(self, step: Any) -> Any:
        between = tuple(map(exact, self.boundaries))
        begins, ends = (0, *between), (*between, math.inf)
        values = []
        for part, begin, end in zip(self.schedules, begins, ends, strict=True):
            _, value = evaluated(clamp(step - begin, 0, end - begin), part)
            values.append(value)
        step, now = like(step, values), values[0]
        for begin, value in zip(between, values[1:], strict=True):
            now = where(step < begin, now, value)
        return now
