"""What a function holds on to, where derivatives have to come in through its arguments."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .._core.record import Record
from .._numerics.scalars import is_wrapped
from ..errors import StructureError


def refuse_traced(who: str, fn: Any) -> None:
    """Refuses a function that closes over a tensor which `torch.func` is differentiating by.

    Raises:
        StructureError: If there is one: its derivative would be lost without a word.
    """
    if any(is_wrapped(x) for x in _held(fn, set())):
        raise captured(who)


def captured(who: str) -> StructureError:
    return StructureError(
        f"`{who}`: the function closes over a tensor that derivatives are taken by, and its "
        "derivative would be lost: pass the tensor in as an argument."
    )


def _held(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in the closure of a function, in partial arguments, records and containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    parts: list[Any] = []
    if isinstance(value, types.FunctionType):
        parts = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        parts += value.__defaults__ or ()
    elif isinstance(value, types.MethodType):
        parts = [value.__self__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, Record):
        parts = list(vars(value).values())
    for part in parts:
        yield from _held(part, seen)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # assigned later
        return False
