"""Gradients that are missing although an update is due: zeros take their place.

A parameter whose gradients are added up has one to come when it had a gradient before, whether or
not it has one now.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._numerics.scalars import number
from ..typing import Slots
from . import precision
from .names import names_of


def awaits(tx: Any) -> bool:
    """Whether a parameter may have an update to come without a gradient."""
    return bool(getattr(tx, "defers", False)) or any(map(awaits, tx.children().values()))


def due(tx: Any, name: str | None, like: Tensor, slots: Slots) -> Any:
    """Whether an update is to come for a tensor: a bool, or a flag where Python may not look."""
    parts = tx.slot_parts(slots, name, like) if awaits(tx) else []
    flags = [number(stage.owes(precision.readable(own, like))) for stage, own in parts]
    if any(flag is True for flag in flags):
        return True
    unknown = [flag for flag in flags if isinstance(flag, Tensor)]
    return torch.stack(unknown).any() if unknown else False


def filled(
    tx: Any, gs: Sequence[Any], slots: Sequence[Slots], ps: Sequence[Any], names: Any
) -> tuple[list[Any], dict[int, Any]]:
    """The gradients with zeros where an update is due; of which it is not known whether, flags.

    `names` has the structure of the tensors, whose paths are their names.
    """
    flags: dict[int, Any] = {}
    out = list(gs)
    missing = [i for i, g in enumerate(gs) if g is None and slots[i] not in ((), None)]
    if not missing or not awaits(tx):
        return out, flags
    paths = names_of(names)
    for i in missing:
        like = ps[i] if ps[i] is not None else _first(slots[i])
        if like is None:
            continue
        if (flag := due(tx, paths[i], like, slots[i])) is not False:
            out[i] = torch.zeros_like(like)
        if isinstance(flag, Tensor):
            flags[i] = flag
    return out, flags


def _first(slots: Slots) -> Tensor | None:
    if isinstance(slots, Tensor):
        return slots
    return next((x for x in map(_first, slots or ()) if x is not None), None)
