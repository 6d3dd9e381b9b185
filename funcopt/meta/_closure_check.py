"""What a function holds on to, where derivatives have to come in through its arguments."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._core.record import Record
from .._numerics.scalars import is_wrapped
from ..errors import StructureError


def refuse_traced(who: str, fn: Any) -> None:
    """Refuses a function that closes over a tensor which `torch.func` is differentiating by.

    Raises:
        StructureError: If there is one: its derivative would be lost silently.
    """
    if any(is_wrapped(x) for x in held(fn, Tensor)):
        raise captured(who)


def captured(who: str) -> StructureError:
    return StructureError(
        f"`{who}`: the function closes over a tensor that derivatives are taken by, and its "
        "derivative would be lost: pass the tensor in as an argument."
    )


def held(fn: Any, kinds: Any) -> Iterator[Any]:
    """What of these kinds a function reaches.

    In its closure, in partial arguments, records and containers; of modules and generators, which
    are mostly global, also among the global names in its code.
    """
    return _held(fn, kinds, set())


def _held(value: Any, kinds: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, kinds):
        yield value
        return
    parts: list[Any] = []
    if isinstance(value, types.FunctionType):
        parts = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        parts += value.__defaults__ or ()
        parts += (value.__kwdefaults__ or {}).values()
        parts += _globals(value) if kinds is not Tensor else ()
    elif isinstance(value, types.MethodType):
        parts = [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, Record):
        parts = list(vars(value).values())
    for part in parts:
        yield from _held(part, kinds, seen)


def _globals(function: types.FunctionType) -> list[Any]:
    """What the names in the code of a user's function stand for."""
    if function.__module__.partition(".")[0] in ("torch", "funcopt"):
        return []
    names = function.__globals__
    found = [names[name] for name in function.__code__.co_names if name in names]
    own = (types.FunctionType, functools.partial, nn.Module, torch.Generator)
    return [x for x in found if isinstance(x, own)]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # assigned later
        return False
