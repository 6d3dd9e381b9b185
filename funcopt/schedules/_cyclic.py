"""Up and down again, in cycles of equal length."""

import math
from typing import Any, Literal

from .._core import checks
from .._numerics.scalars import clamp, exact, floor, power, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import evaluated


class cyclic_schedule(ScheduleRecord):
    """Linear from `base_value` to `max_value` and back, in cycles.

    With y from 0 to 1 in the first `step_size_up` steps of a cycle, and back to 0 in the
    `step_size_down` others, and k = 0, 1, ... the number of the cycle:

        base_value + (max_value - base_value) y              for mode "triangular"
        base_value + (max_value - base_value) y / 2^k        for mode "triangular2"
        base_value + (max_value - base_value) y gamma^step   for mode "exp_range"

    The same as `torch.optim.lr_scheduler.CyclicLR`, whose momentum is another schedule here: with
    `base_value` above `max_value` it goes the other way.

    Args:
        base_value: The value at the ends of each cycle.
        max_value: The value at the top of the first one.
        step_size_up: Steps of the way up; positive.
        step_size_down: Steps of the way down; positive. By default as many as up.
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``.
        gamma: The factor of the amplitude per step, for ``"exp_range"``; positive.

    Raises:
        HyperparameterError: If a length or `gamma` is not positive, or `mode` is unknown.

    References:
        Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
        https://arxiv.org/abs/1506.01186
    """

    base_value: Scalar
    max_value: Scalar
    step_size_up: Length
    step_size_down: Length | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: Scalar = 1.0
    drawn_lengths = 8

    def __post_init__(self) -> None:
        checks.number(self, "base_value", self.base_value)
        checks.number(self, "max_value", self.max_value)
        checks.steps(self, "step_size_up", self.step_size_up)
        if self.step_size_down is not None:
            checks.steps(self, "step_size_down", self.step_size_down)
        checks.choice(self, "mode", self.mode, ("triangular", "triangular2", "exp_range"))
        checks.positive(self, "gamma", self.gamma)

    def __call__(self, step: Any) -> Any:
        step, base, most, gamma = evaluated(step, self.base_value, self.max_value, self.gamma)
        step = clamp(step, 0, math.inf)
        up = exact(self.step_size_up)
        down = up if self.step_size_down is None else exact(self.step_size_down)
        cycle = floor(step / (up + down))
        at = step - cycle * (up + down)
        height = where(at <= up, at / up, (up + down - at) / down)
        if self.mode == "triangular2":
            height = height * power(0.5, cycle)
        elif self.mode == "exp_range":
            height = height * power(gamma, step)
        return base + (most - base) * height
