"""What a parameter group holds: parameters, and options: numbers, tensors, schedules, others."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .._numerics.names import plain_name
from .._numerics.scalars import at, has_schedule, is_zero, number
from ..engine import EngineOption
from ..errors import HyperparameterError

Options = dict[str, Any]


class How(NamedTuple):
    """How an optimizer makes its steps: options of all classes that are no matter of a group."""

    offload: bool = False
    engine: EngineOption = "auto"


NamedParameter = tuple[str | None, Tensor]
"""A parameter, and its name if it is known."""


def named_parameters(group: Mapping[str, Any]) -> Iterator[NamedParameter]:
    """The parameters of a group, with the names that they have in the model, if they have some."""
    return zip(map(plain_name, given_names(group)), group["params"], strict=False)


def given_names(group: Mapping[str, Any]) -> list[str] | list[None]:
    """The names of the parameters of a group as they were given, `None` where they have none."""
    return group.get("param_names") or [None] * len(group["params"])


def named(given: Any) -> tuple[str | None, Any]:
    """One of the parameters of a new group: a tensor, or a pair of its name and it."""
    return (plain_name(given[0]), given[1]) if isinstance(given, tuple) else (None, given)


def evaluate_schedule(value: Any, updates: Any) -> Any:
    """`value` with its schedules after so many updates, as Python numbers where possible."""
    now = at(value, number(updates))
    return tuple(map(number, now)) if isinstance(now, tuple) else number(now)


def same_value(a: Any, b: Any) -> bool:
    """Whether two values are equal; tensors are only if they are the same object."""
    if a is b:
        return True
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same_value, a, b))
    return type(a) is type(b) and bool(a == b)


def slots_key(value: Any) -> Any:
    """What of a value decides which slots there are: whether a number is zero, else all of it."""
    if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool):
        return is_zero(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(slots_key, value))
    return "schedule" if has_schedule(value) else repr(value)


def as_hyperparameter(key: str, value: Any) -> Any:
    """What a rule sees: a tuple of a list of numbers, and a 0-d tensor of one with one element."""
    if isinstance(value, list) and all(isinstance(x, (int, float, Tensor)) for x in value):
        return tuple(value)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.numel() != 1:
        raise HyperparameterError(
            f"`{key}` must be a single number, got a tensor of shape {tuple(value.shape)}: Tensor "
            f"{key} must be 1-element, since a group has one number for all of its parameters."
        )
    return value.reshape(())


def is_immutable(value: Any) -> bool:
    """Whether the object stays what it is; of a 0-d tensor the number may change, which is read."""
    if isinstance(value, tuple):
        return all(map(is_immutable, value))
    if isinstance(value, Tensor):
        return value.dim() == 0
    return value is None or isinstance(value, (int, float, str))
