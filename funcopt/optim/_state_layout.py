"""How slots and memory become the flat dict of tensors that torch keeps for a parameter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.precision import entries, map_slots, zero_like
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from ..combinators import labels, unique_keys
from ..errors import StructureError
from ..typing import Memory, Slots

STEP = "step"  # torch's name for the number of updates of a parameter
UPDATES = "updates"  # the number of steps of the optimizer, which schedules see


def clock_dtype() -> torch.dtype:
    """The dtype of clocks, as torch's optimizers have it."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)


class StateLayout(NamedTuple):
    """The keys of one parameter's state, and where they stand in its slots and its memory.

    Slots and memory are on the meta device; of the memory of other branches of a partition, only
    the structure counts.
    """

    slots: Slots
    memory: Memory
    slot_at: Mapping[str, int]
    memory_at: Mapping[str, int]
    shared: frozenset[str]  # the keys of memory that all parameters have in common

    @property
    def keys(self) -> Sequence[str]:
        return (*self.slot_at, *self.memory_at)

    def unpack(self, stored: Mapping[str, Any]) -> tuple[Slots, Memory]:
        """Slots and memory, of the tensors in `stored`."""
        return (
            _filled(self.slots, self.slot_at, stored),
            _filled(self.memory, self.memory_at, stored),
        )

    def pack(self, slots: Slots, memory: Memory) -> dict[str, Tensor]:
        """The inverse of `unpack`."""
        of_slots, of_memory = entries(slots), entries(memory)
        return {
            **{key: of_slots[i] for key, i in self.slot_at.items()},
            **{key: of_memory[i] for key, i in self.memory_at.items()},
        }

    def templates(self) -> dict[str, Tensor]:
        """What the state holds when it is created, on the meta device."""
        return self.pack(self.slots, self.memory)


def initial_state(
    tx: PerTensor, name: str | None, p: Tensor
) -> tuple[StateLayout, dict[str, Tensor]]:
    """The layout of a parameter's state, and the state before its first step.

    The first stage that has a quantity owns the bare name, as for hyperparameters, so checkpoints
    of torch's classes load here, and ours load there.
    """
    with torch.no_grad():
        slots, memory = tx.init_slots(name, p), tx.init_memory(zero_like([p]))
    of_slots = tx.slot_parts(slots, name, p)
    of_memory = tx.memory_parts(memory, name, p)
    slot_place = {id(x): i for i, x in enumerate(entries(slots))}
    memory_place = {id(x): i for i, x in enumerate(entries(memory))}
    pairs, places = [], []
    stages = [stage for stage, _ in of_slots]
    for label, (stage, own), (_, remembered) in zip(
        labels(stages), of_slots, of_memory, strict=True
    ):
        for values, place in ((own, slot_place), (remembered, memory_place)):
            for entry, x in _by_field(values):
                pairs.append((label, entry))
                places.append((place, place[id(x)], stage.memory_per))
    keys = unique_keys([(STEP, STEP), (UPDATES, UPDATES), *pairs])[2:]
    found = list(zip(keys, places, strict=True))
    layout = StateLayout(
        map_slots(_to_meta, slots),
        map_slots(_to_meta, memory),
        {key: i for key, (place, i, _) in found if place is slot_place},
        {key: i for key, (place, i, _) in found if place is memory_place},
        frozenset(key for key, (place, _, per) in found if place is memory_place and per == "tree"),
    )
    return layout, layout.pack(slots, memory)


def check_layout(tx: PerTensor, name: str | None, p: Tensor) -> None:
    """Refuses slots and memory without names, before the first step: nothing is computed.

    Raises:
        StructureError: If a rule returns such.
    """
    like = torch.empty(p.shape, dtype=p.dtype, device="meta")
    try:
        initial_state(tx, name, like)
    except StructureError:
        raise
    except Exception:  # of a rule that reads values, which `p` has
        return


def _by_field(values: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a named tuple by field, with another or a number where a field has several."""
    out: list[tuple[str, Tensor]] = []
    for name, value in zip(getattr(values, "_fields", ()), values, strict=True):
        if isinstance(value, Tensor):
            out.append((name, value))
        elif hasattr(value, "_fields"):
            out += [(f"{name}/{field}", x) for field, x in _by_field(value)]
        else:
            out += [(f"{name}/{i}", x) for i, x in enumerate(entries(value))]
    return out


def _filled(template: Any, at: Mapping[str, int], stored: Mapping[str, Any]) -> Any:
    tensors = entries(template)
    for key, i in at.items():
        tensors[i] = stored[key]
    each = iter(tensors)
    return map_slots(lambda _: next(each), template)


def _to_meta(x: Tensor) -> Tensor:
    if shards.is_sharded(x):
        return shards.meta_like(x)  # type: ignore[no-any-return]
    return torch.empty(x.shape, dtype=x.dtype, device="meta")
