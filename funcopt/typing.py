"""The types of public signatures.

A type variable stands for a tree that comes back as the type that it was: parameters that are a
``dict[str, Tensor]`` stay one through `apply_updates`, for checkers too.
"""

import re
import sys
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from torch import Tensor

if sys.version_info >= (3, 12):
    from typing import TypeAliasType as TypeAliasType
else:
    from typing_extensions import TypeAliasType as TypeAliasType  # which torch and optree require

__all__ = [
    "Coefficients",
    "Length",
    "Memory",
    "Normalization",
    "OptState",
    "Params",
    "ParamsT",
    "Ratio",
    "Scalar",
    "Schedule",
    "Slots",
    "Tree",
    "Updates",
]

Schedule = TypeAliasType("Schedule", Callable[[Any], Any])
"""A hyperparameter as a function of the number of updates already made: 0 at the first."""

Scalar = TypeAliasType("Scalar", float | Tensor | Schedule)
"""A hyperparameter: a number, a 0-d tensor, or a schedule. A field annotated with it is live."""

Coefficients = TypeAliasType(
    "Coefficients", tuple[Scalar, Scalar, Scalar] | tuple[tuple[Scalar, Scalar, Scalar], ...] | str
)
"""Those of Newton-Schulz iterations: a triple, one for each iteration, or the name of a set."""

Normalization = TypeAliasType("Normalization", Literal["clamp", "add", "aol", "schatten4"])
"""How a matrix is divided by its norm before Newton-Schulz iterations."""

Ratio = TypeAliasType(
    "Ratio", Literal["original", "match_rms_adamw", "rms_to_rms", "spectral", "unscaled"]
)
"""How the update of a matrix depends on its shape after Newton-Schulz iterations."""

Length = TypeAliasType("Length", int | Tensor)
"""How many updates something takes: a whole number, or a 0-d tensor, so that runs may differ."""

Tree = TypeVar("Tree")
"""A pytree of tensors: dicts, lists, tuples, named tuples, or one bare tensor."""

Params = TypeVar("Params")
"""A pytree of tensors: the parameters."""

Updates = TypeVar("Updates")
"""A pytree like the parameters; `None` where there is no gradient."""

OptState = TypeAliasType("OptState", Any)
"""The optimizer state of a transformation: a pytree of tensors.

Of one that works tensor by tensor it is a `State`; of one that sees whole trees, whatever its
`init` returns.
"""

Slots = TypeAliasType("Slots", Any)
"""The part of a state that belongs to one tensor: a named tuple of tensors, or ``()``."""

Memory = TypeAliasType("Memory", Any)
"""The shared scalars of a transformation: a named tuple of 0-d tensors, or ``()``."""

ParamsT = TypeAliasType(
    "ParamsT", Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
)
"""The parameters of an optimizer, as in torch: tensors, (name, tensor) pairs, or groups."""


def is_hyperparameter(annotation: Any) -> bool:
    """Whether a field so annotated is live: a `Scalar`, an optional one, or a tuple of them.

    So are `Coefficients`, also where they are a name.
    """
    if isinstance(annotation, str):  # from __future__ import annotations
        return re.search(r"\b(Scalar|Coefficients)\b", annotation) is not None
    parts, kind = get_args(annotation), get_origin(annotation)
    if kind is tuple:
        return any(map(is_hyperparameter, parts))
    if kind in (Union, UnionType):
        parts = tuple(part for part in parts if part is not NoneType)
        return len(parts) == 1 and is_hyperparameter(parts[0])
    return annotation in (Scalar, Coefficients)


def __dir__() -> list[str]:
    return sorted(__all__)
