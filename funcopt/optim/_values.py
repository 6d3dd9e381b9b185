"""The values in a parameter group: numbers, tensors, schedules, and what else an option may be."""

from typing import Any

from torch import Tensor

from .._numerics.scalars import at, has_schedule, is_zero, number
from ..errors import HyperparameterError

Values = dict[str, Any]


def evaluated(value: Any, updates: Any) -> Any:
    """`value` with its schedules after so many updates, as Python numbers where possible."""
    now = at(value, number(updates))
    return tuple(map(number, now)) if isinstance(now, tuple) else number(now)


def same(a: Any, b: Any) -> bool:
    """Whether two values are one, without a look into tensors."""
    if a is b:
        return True
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def kind(value: Any) -> Any:
    """What of a value decides which slots there are: whether a number is zero, else all of it."""
    if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool):
        return is_zero(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(kind, value))
    return "schedule" if has_schedule(value) else repr(value)


def as_scalar(key: str, value: Any) -> Any:
    """What a rule sees: a copy of a list of numbers, and a 0-d tensor for one of one element."""
    if isinstance(value, list) and all(isinstance(x, (int, float, Tensor)) for x in value):
        return tuple(value)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.numel() != 1:
        raise HyperparameterError(
            f"Tensor {key} must be 1-element, got one of shape {tuple(value.shape)}. A group has "
            "one number for all of its parameters."
        )
    return value.reshape(())


def is_fixed(value: Any) -> bool:
    """Whether the object stays what it is; of a 0-d tensor the number may change, which is read."""
    if isinstance(value, tuple):
        return all(map(is_fixed, value))
    if isinstance(value, Tensor):
        return value.dim() == 0
    return value is None or isinstance(value, (int, float, str))
