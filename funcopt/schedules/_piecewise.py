"""Factors at given steps: at once, or with a transition from one to the next."""

import math
from itertools import accumulate
from operator import mul
from typing import Any, Literal

from .._core import checks
from .._numerics.scalars import clamp, exact, where
from ..errors import HyperparameterError
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, half_cosine, progress, straight

_FALLS = {"linear": straight, "cosine": half_cosine}


class _piecewise(ScheduleRecord):
    """Values that are products of factors, one for each boundary."""

    init_value: Scalar
    boundaries: tuple[Length, ...]
    scales: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        who = type(self).__name__
        checks.number(self, "init_value", self.init_value)
        checks.boundaries(self, "boundaries", self.boundaries)
        if not isinstance(self.scales, (tuple, list)) or len(self.scales) != len(self.boundaries):
            raise HyperparameterError(
                f"`{who}`: `scales` must be a tuple of as many numbers as there are `boundaries`, "
                f"{len(self.boundaries)}, got {self.scales!r}."
            )
        for i, scale in enumerate(self.scales):
            checks.non_negative(self, f"scales[{i}]", scale)

    def values(self, step: Any) -> tuple[Any, list[Any]]:
        """The step, and the value before the first boundary and from each one on."""
        step, start, *scales = evaluated(step, self.init_value, *self.scales)
        return clamp(step, 0, math.inf), list(accumulate([start, *scales], mul))


class piecewise_constant_schedule(_piecewise):
    """Multiplies by a factor of its own at each boundary.

        init_value (product of the scales whose boundary is <= step)

    The same as Optax's `piecewise_constant_schedule`, which takes a dict of both. With one factor
    for all, it is `multi_step_decay_schedule`.

    Args:
        init_value: The value before the first boundary.
        boundaries: The steps with a new value, in ascending order.
        scales: The factors, one for each boundary; not negative.

    Raises:
        HyperparameterError: If the boundaries are not integers in ascending order, or not as many
            as the scales; if a scale is negative.
    """

    def __call__(self, step: Any) -> Any:
        step, values = self.values(step)
        now = values[0] + 0.0 * step  # a tensor if the step is one
        for boundary, value in zip(self.boundaries, values[1:], strict=True):
            now = where(step >= exact(boundary), value, now)
        return now


class piecewise_interpolate_schedule(_piecewise):
    """Goes from each value to the next, which is reached at its boundary.

    With values v_0 = init_value and v_i = v_(i-1) scales[i-1], boundaries b_0 = 0, b_1, ..., and
    x = (step - b_(i-1)) / (b_i - b_(i-1)) between two of them:

        v_i + (v_(i-1) - v_i) (1 - x)                     for interpolation "linear"
        v_i + (v_(i-1) - v_i) (1 + cos(pi x)) / 2         for interpolation "cosine"

    and the last value from the last boundary on. The same as Optax's
    `piecewise_interpolate_schedule`, which takes a dict of boundaries and scales.

    Args:
        init_value: The value at step 0.
        boundaries: The steps at which a value is reached, in ascending order.
        scales: The factors from one value to the next, one for each boundary; not negative.
        interpolation: ``"linear"`` or ``"cosine"``.

    Raises:
        HyperparameterError: If the boundaries are not integers in ascending order, or not as many
            as the scales; if a scale is negative, or `interpolation` is unknown.
    """

    interpolation: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice(self, "interpolation", self.interpolation, _FALLS)

    def __call__(self, step: Any) -> Any:
        step, values = self.values(step)
        now, begin = values[0] + 0.0 * step, 0
        for i, boundary in enumerate(map(exact, self.boundaries)):
            empty = boundary <= begin  # its value is there at once
            x = progress(step, begin, where(empty, 1, boundary - begin))
            fall = _FALLS[self.interpolation](where(empty, 1.0, x))
            now = where(step < begin, now, between(values[i], values[i + 1], fall))
            begin = boundary
        return now
