"""The words that signatures are made of."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias, get_args, get_origin

from torch import Tensor

__all__ = [
    "Memory",
    "Params",
    "Scalar",
    "Schedule",
    "Slots",
    "State",
    "Updates",
]

Schedule: TypeAlias = Callable[[Any], Any]
"""A number as a function of the updates already made: 0 at the first."""

Scalar: TypeAlias = float | Tensor | Schedule
"""A hyperparameter: a number, a 0-d tensor, or a schedule. A field annotated with it is live."""

Params: TypeAlias = Any
"""A pytree of tensors: dicts, lists, tuples, named tuples, or one bare tensor."""

Updates: TypeAlias = Any
"""A pytree like the parameters; `None` where there is no gradient."""

State: TypeAlias = Any
"""What a transformation remembers: a pytree of tensors."""

Slots: TypeAlias = Any
"""The part of a state that belongs to one tensor: a named tuple of tensors, or ``()``."""

Memory: TypeAlias = Any
"""The scalars a rule remembers from step to step: a named tuple of 0-d tensors, or ``()``."""


def is_hyperparameter(annotation: Any) -> bool:
    """Whether a field so annotated is live: a `Scalar`, an optional one, or a tuple of them."""
    if isinstance(annotation, str):  # from __future__ import annotations
        return re.search(r"\bScalar\b", annotation) is not None
    if get_origin(annotation) is tuple:
        return any(is_hyperparameter(part) for part in get_args(annotation))
    return set(get_args(annotation)) - {type(None)} == set(get_args(Scalar))
