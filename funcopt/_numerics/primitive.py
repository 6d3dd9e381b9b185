"""Functions that an engine sees as one operation, whatever operations of torch they are made of."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def primitive(function: F) -> F:
    """Makes a call of `function` one operation, where an argument stands for a tensor.

    An engine has an instruction of the name of `function`, followed by those arguments that are
    strings or whole numbers, such as ``block_amax_256``. Elsewhere it is what it is made of.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        for x in args:
            if getattr(type(x), "stands_in", False):
                return type(x).__torch_function__(call, (type(x),), args)
        return function(*args)

    call.is_primitive = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def instruction_of(function: Any, args: Any) -> str:
    """The name of the instruction of a call."""
    fixed = (x for x in args if isinstance(x, (str, int)))
    return "_".join([function.__name__, *map(str, fixed)])
