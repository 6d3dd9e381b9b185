"""Range checks that name the argument.

They check Python numbers only. A tensor passes: reading its value would synchronize a device
and break `torch.func.vmap` and `torch.compile`. So does a schedule, whose values come later.
"""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import HyperparameterError
from .compact import in_message as shown

NOT_NEGATIVE = "not be negative"

PARAMETERS = (
    "A transformation is made without parameters; they are given to `init`, or to an optimizer."
)


def refuse(owner: object, name: str, value: Any, said: str) -> NoReturn:
    """Says what is wrong with the argument `name` of `owner`, by its type or its own name."""
    error = HyperparameterError(f"`{_who(owner)}`: `{name}` {said}")
    error.argument, error.value = name, value
    raise error from None


def _check(
    owner: object, name: str, value: Any, holds: Callable[[Any], bool], expected: str
) -> None:
    if type(value) is float and holds(value):  # nearly always, and in every step of a scheduler
        return
    if isinstance(value, Tensor):
        if value.dim() or value.is_complex():
            refuse(
                owner,
                name,
                value,
                f"must be a single number, got a tensor of shape "
                f"{tuple(value.shape)}. Inside `torch.func.vmap` each run sees its own 0-d tensor.",
            )
        return
    if isinstance(value, type):
        refuse(owner, name, value, f"is the class `{value.__name__}`: call it, to make a schedule.")
    if isinstance(value, torch.nn.Module):  # which can be called, but is no schedule
        got = f"the module `{type(value).__name__}`"
        refuse(owner, name, value, f"must be a number, got {got}. {PARAMETERS}")
    if callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        refuse(
            owner,
            name,
            value,
            f"must be a number, a 0-d tensor or a schedule, got {shown(value)}.",
        )
    if value != value:
        refuse(owner, name, value, f"must be a number, got {shown(value)}.")
    if not holds(value):
        if value == math.inf and expected == NOT_NEGATIVE:
            expected = "be finite"
        refuse(owner, name, value, f"must {expected}, got {shown(value)}.")


def _who(owner: object) -> str:
    """A record by its type; a function by the name that it gives."""
    return owner if isinstance(owner, str) else type(owner).__name__


def number(owner: object, name: str, value: Any) -> None:
    """Any number but NaN."""
    _check(owner, name, value, lambda x: x == x, "be a number")


def fixed(owner: object, name: str, value: Any) -> None:
    """What `init` uses once cannot follow a schedule."""
    if callable(value):
        refuse(
            owner,
            name,
            value,
            f"is used once, by `init`: it must be a number, got {shown(value)}.",
        )
    non_negative(owner, name, value)


def fixed_number(owner: object, name: str, value: Any) -> None:
    """A number that is not negative where there are no updates that a schedule could count."""
    if callable(value):
        refuse(owner, name, value, f"must be a number, got {shown(value)}.")
    non_negative(owner, name, value)


def non_negative(owner: object, name: str, value: Any) -> None:
    _check(owner, name, value, lambda x: 0 <= x < math.inf, NOT_NEGATIVE)


def not_positive(owner: object, name: str, value: Any) -> None:
    _check(owner, name, value, lambda x: x <= 0, "not be positive")


def positive(owner: object, name: str, value: Any) -> None:
    _check(owner, name, value, lambda x: x > 0, "be positive")


def seed(owner: object, name: str, value: Any) -> None:
    """A whole number, of 63 bits."""
    expected = "be a whole number, not negative and below 2**63"
    _check(owner, name, value, lambda x: 0 <= x < 2**63 and x == int(x), expected)


def zero(owner: object, name: str, value: Any, where: str) -> None:
    """A number that has no meaning, `where` that is so."""
    _check(owner, name, value, lambda x: x == 0, f"be 0 {where}")


def at_least(owner: object, name: str, value: Any, least: float) -> None:
    _check(owner, name, value, lambda x: x >= least, f"be at least {least}")


def in_unit_interval(owner: object, name: str, value: Any) -> None:
    """A decay rate: in [0, 1)."""
    _check(owner, name, value, lambda x: 0 <= x < 1, "lie in [0, 1)")


def in_open_unit_interval(owner: object, name: str, value: Any) -> None:
    """A share that is neither nothing nor all: in (0, 1)."""
    _check(owner, name, value, lambda x: 0 < x < 1, "lie in (0, 1)")


def fraction(owner: object, name: str, value: Any) -> None:
    """A share: in [0, 1]."""
    _check(owner, name, value, lambda x: 0 <= x <= 1, "lie in [0, 1]")


def positive_fraction(owner: object, name: str, value: Any) -> None:
    """A share that is not nothing: in (0, 1]."""
    _check(owner, name, value, lambda x: 0 < x <= 1, "lie in (0, 1]")


def open_interval(owner: object, name: str, value: Any, low: float, high: float = math.inf) -> None:
    """A number strictly between two others."""
    expected = f"lie between {low} and {high}" if high < math.inf else f"be greater than {low}"
    _check(owner, name, value, lambda x: low < x < high, expected)


def several(owner: object, name: str, value: Any, *, count: int = 2) -> None:
    """So many of something, to be looked at one by one."""
    if not isinstance(value, (tuple, list)) or len(value) != count:
        refuse(owner, name, value, f"must be a tuple of {count} numbers, got {shown(value)}.")


def ascending(owner: object, name: str, value: Any) -> None:
    """A pair of which the first is not above the second, as far as Python can tell."""
    if all(isinstance(x, numbers.Real) for x in value) and value[0] > value[1]:
        refuse(owner, name, value, f"must be a pair (min, max), got {shown(value)}.")


def dimensions(owner: object, name: str, value: Any) -> None:
    """A tuple of places in a shape, or `None`."""
    structure(owner, name, value)
    if value is None or (isinstance(value, (tuple, list)) and all(type(x) is int for x in value)):
        return
    refuse(
        owner,
        name,
        value,
        f"must be a tuple of whole numbers such as (0, 1), got {shown(value)}.",
    )


def betas(owner: object, name: str, value: Any, *, count: int = 2) -> None:
    """A tuple of decay rates, each in [0, 1)."""
    several(owner, name, value, count=count)
    for i, beta in enumerate(value):
        in_unit_interval(owner, f"{name}[{i}]", beta)


def takes(owner: object, name: str, value: Any, arguments: Sequence[str]) -> None:
    """A function that can be called with these arguments, by position."""
    call = f"{name}({', '.join(arguments)})"
    if not callable(value):
        refuse(owner, name, value, f"must be a function, `{call}`, got {shown(value)}.")
    try:
        signature = inspect.signature(value)
    except ValueError:  # some that are built in have none
        return
    try:
        signature.bind_partial(*arguments)
    except TypeError:
        refuse(
            owner,
            name,
            value,
            f"is called as `{call}`, and takes only {signature}: add "
            "what is missing, even if it is not used.",
        )


def steps(owner: object, name: str, value: Any) -> None:
    """A length of a schedule: a positive whole number, or a 0-d tensor."""
    if _is_length(owner, name, value):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(
            owner,
            name,
            value,
            f"must be a positive whole number of updates, got "
            f"{value!r}. A schedule without steps is a `constant_schedule`.",
        )


def length(owner: object, name: str, value: Any) -> None:
    """A number of updates in a schedule, which may be 0: a whole number, or a 0-d tensor."""
    if not _is_length(owner, name, value):
        whole_number(owner, name, value)


def _is_length(owner: object, name: str, value: Any) -> bool:
    """Whether it is a tensor, one number for each run."""
    if not isinstance(value, Tensor):
        return False
    if value.dim() or value.is_complex() or value.dtype is torch.bool:
        refuse(
            owner,
            name,
            value,
            f"must be a number of updates, got a tensor of shape "
            f"{tuple(value.shape)} in {value.dtype}.",
        )
    return True


def structure(owner: object, name: str, value: Any) -> None:
    """Refuses a tensor where a transformation is made otherwise for another value."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(part, Tensor) for part in parts):
        refuse(
            owner,
            name,
            value,
            "must be a plain Python value, got a tensor. It decides "
            "what is computed, so it cannot differ between the runs of one `sweep`, nor be "
            "learned: make a sweep for each value.",
        )


def whole_number(
    owner: object, name: str, value: Any, *, least: int = 0, most: float = math.inf
) -> None:
    """A whole number that counts something."""
    structure(owner, name, value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f", at least {least}" if math.isinf(most) else f" from {least} to {most}"
        refuse(owner, name, value, f"must be a whole number{limit}, got {shown(value)}.")


def boundaries(owner: object, name: str, value: Any) -> None:
    """Counts of updates in ascending order; the same one may come more than once."""
    known = value if isinstance(value, (tuple, list)) else None
    if known is not None:
        known = [b for b in known if not _is_length(owner, name, b)]
    if (
        known is None
        or any(isinstance(b, bool) or not isinstance(b, int) or b < 0 for b in known)
        or list(known) != sorted(known)
    ):
        refuse(
            owner,
            name,
            value,
            f"must be a tuple of whole numbers of updates in ascending order, got {shown(value)}.",
        )


def switch(owner: object, name: str, value: Any) -> None:
    """One of two ways."""
    structure(owner, name, value)
    if type(value).__name__ not in ("bool", "bool_"):  # Python's, NumPy's
        refuse(owner, name, value, f"must be True or False, got {shown(value)}.")


def dtype(owner: object, name: str, value: Any) -> None:
    """A floating-point dtype, or `None`."""
    if isinstance(value, torch.dtype) and not (value.is_floating_point or value.is_complex):
        refuse(owner, name, value, f"must be a floating-point dtype, got {value}.")
    if value is None or isinstance(value, torch.dtype):
        return
    known = isinstance(getattr(torch, str(value), None), torch.dtype)
    meant = str(value) if known else "float32"
    refuse(owner, name, value, f"must be a dtype such as torch.{meant}, got {shown(value)}.")


def choice(owner: object, name: str, value: Any, choices: Iterable[Any]) -> None:
    """One of a few words."""
    structure(owner, name, value)
    if value not in tuple(choices):
        refuse(
            owner,
            name,
            value,
            f"must be one of {', '.join(map(repr, choices))}, got {shown(value)}.",
        )


def coefficients(owner: object, name: str, value: Any, *, count: int) -> None:
    """A tuple of so many numbers."""
    several(owner, name, value, count=count)
    for i, part in enumerate(value):
        number(owner, f"{name}[{i}]", part)


def nonempty_name(owner: object, name: str, value: Any) -> None:
    """A name, or `None`."""
    if value is not None and not (isinstance(value, str) and value):
        refuse(owner, name, value, f"must be a word, got {shown(value)}.")
