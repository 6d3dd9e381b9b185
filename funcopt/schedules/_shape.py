"""Functions for schedules: values at a step, progress, and interpolation between two values."""

import math
from typing import Any

import torch
from torch import Tensor

from .._numerics.scalars import clamp, cos, double, exact, root, where
from ..typing import Length


def evaluated(step: Any, *values: Any) -> tuple[Any, ...]:
    """The step, and the values at it: a value may be a schedule itself.

    All in float64: numbers as Python numbers, tensors as tensors.
    """
    step = double(step) if isinstance(step, Tensor) else step
    here = [_real(value(step) if callable(value) else value) for value in values]
    return (like(step, here), *here)


def like(step: Any, values: list[Any]) -> Any:
    """The step, as a tensor if a value is one: then the result is one in all cases."""
    if isinstance(step, Tensor):
        return step
    tensor = next((value for value in values if isinstance(value, Tensor)), None)
    return step if tensor is None else torch.full_like(tensor, step)


def _real(value: Any) -> Any:
    return double(value) if isinstance(value, Tensor) else float(value)


def progress(step: Any, begin: Length, steps: Length) -> Any:
    """The fraction of `steps` made since `begin`: 0 before, 1 afterwards."""
    return clamp((step - exact(begin)) / exact(steps), 0.0, 1.0)


def between(start: Any, end: Any, share: Any) -> Any:
    """``share start + (1 - share) end``: exact at both ends, and where they are equal."""
    way = start - end
    return where(share < 0.5, end + share * way, start - (1 - share) * way)


def straight(x: Any) -> Any:
    """From 1 to 0 along a line, as `x` goes from 0 to 1."""
    return 1 - x


def half_cosine(x: Any) -> Any:
    """From 1 to 0, flat at both ends."""
    return (1 + cos(math.pi * x)) / 2


def one_minus_root(x: Any) -> Any:
    """From 1 to 0, steep at the start."""
    return 1 - root(x)


def root_of_rest(x: Any) -> Any:
    """From 1 to 0, steep at the end."""
    return root(1 - x)


def one_minus_square(x: Any) -> Any:
    """From 1 to 0, flat at the start."""
    return 1 - x * x
