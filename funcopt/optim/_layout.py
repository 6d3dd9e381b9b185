"""How slots and memory become the flat dict of tensors that torch keeps for a parameter."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base import PerTensor
from .._leaves import entries, like, map_slots
from .._typing import Memory, Slots
from ..combinators import labels, unique_keys

STEP = "step"  # torch's name for the number of updates of a parameter
UPDATES = "updates"  # the number of steps of the optimizer, which schedules see


class Layout(NamedTuple):
    """The keys of one parameter's state, and the structure, shapes and dtypes behind them."""

    slots: Slots  # on the meta device
    memory: Memory  # on the meta device
    slot_keys: list[str]
    memory_keys: list[str]

    def unpack(self, stored: dict[str, Any]) -> tuple[Slots, Memory]:
        """Slots and memory, of the tensors in `stored`."""
        slots, memory = iter(self.slot_keys), iter(self.memory_keys)
        return (
            map_slots(lambda _: stored[next(slots)], self.slots),
            map_slots(lambda _: stored[next(memory)], self.memory),
        )

    def pack(self, slots: Slots, memory: Memory) -> dict[str, Tensor]:
        """The inverse of `unpack`."""
        return {
            **dict(zip(self.slot_keys, entries(slots), strict=True)),
            **dict(zip(self.memory_keys, entries(memory), strict=True)),
        }

    def dtype(self, key: str) -> torch.dtype | None:
        """The dtype of what is stored under `key`; `None` if that is not ours."""
        return self.pack(self.slots, self.memory)[key].dtype if key in self.keys else None

    @property
    def keys(self) -> list[str]:
        return self.slot_keys + self.memory_keys


def layout(tx: PerTensor, name: str | None, p: Tensor) -> Layout:
    """The layout of the state that `tx` keeps for parameters such as `p`.

    The first stage that has a quantity owns the bare name, as for hyperparameters, so checkpoints
    of torch's classes load and ours load there.
    """
    slots = map_slots(_to_meta, tx.init_slots(name, p.detach()))
    memory = map_slots(_to_meta, tx.init_memory(like([p])))
    per_rule = list(zip(tx.parts(slots), tx.parts(memory), strict=True))
    names = [(STEP, STEP), (UPDATES, UPDATES)]
    is_slot: list[bool] = []
    for label, ((_, own), (_, remembered)) in zip(
        labels(node for (node, _), _ in per_rule), per_rule, strict=True
    ):
        for values, slot in ((own, True), (remembered, False)):
            for name in _names(values):
                names.append((label, name))
                is_slot.append(slot)
    keys = unique_keys(names)[2:]
    return Layout(
        slots,
        memory,
        [key for key, slot in zip(keys, is_slot, strict=True) if slot],
        [key for key, slot in zip(keys, is_slot, strict=True) if not slot],
    )


def _names(values: Any) -> list[str]:
    """A name for every tensor in a named tuple: its field, with a number if it holds several."""
    out = []
    for name, value in zip(getattr(values, "_fields", ()), values, strict=True):
        count = len(entries(value))
        out += [name] if isinstance(value, Tensor) else [f"{name}/{i}" for i in range(count)]
    return out


def _to_meta(x: Tensor) -> Tensor:
    return x.to("meta")
