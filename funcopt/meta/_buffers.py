"""Buffers of modules, such as running statistics: copied, exchanged, and put back."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

Buffers = list[tuple[dict[str, Any], dict[str, Any]]]
"""Where modules keep theirs, and what is kept there."""


def buffers_of(modules: Iterable[nn.Module]) -> Buffers:
    """The buffers as they are; calls of the modules go on to change them."""
    return [(owner._buffers, dict(owner._buffers)) for owner in modules if owner._buffers]


def copied(buffers: Buffers) -> Buffers:
    """The same values in tensors of their own; what was one tensor stays one."""
    made: dict[int, Tensor] = {}

    def one(x: Any) -> Any:
        return x if x is None else made.setdefault(id(x), x.detach().clone())

    return [(place, {name: one(x) for name, x in own.items()}) for place, own in buffers]


def put(buffers: Buffers) -> None:
    """Makes these the buffers of their modules: other tensors, so that no history is spoiled."""
    for place, own in buffers:
        place.clear()
        place.update(own)
