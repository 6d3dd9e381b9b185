"""How much memory parameters, gradients and optimizer state take, slot by slot."""

from typing import Literal, NamedTuple

import torch


class StateEntry(NamedTuple):
    """One tensor of the optimizer state: on this rank, where its parameter is sharded."""

    group: str
    parameter: str  # its name, or its place in the group; empty for what all share
    slot: str  # its key, as in checkpoints
    shape: torch.Size
    dtype: torch.dtype
    entries: int | None  # of the parameter; `None` for step counts and shared scalars

    @property
    def bytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize


class MemoryPlan(NamedTuple):
    """The bytes of the optimizer state when every parameter has been stepped, and of the rest.

    Of sharded parameters, those of the part on this rank.
    """

    entries: tuple[StateEntry, ...]
    parameters: int
    gradients: int
    allocated: int | None = None  # of the state, now; of the pure form, this is not known
    frozen: int = 0  # how many parameters have no gradients, and so no state
    offloaded: bool = False  # whether the state is on the CPU, wherever the parameters are

    @property
    def state(self) -> int:
        return sum(x.bytes for x in self.entries)

    def by(self, what: Literal["group", "parameter", "slot"]) -> dict[str, int]:
        """The bytes of the state for each group, parameter or slot."""
        found: dict[str, int] = {}
        for x in self.entries:
            key = str(getattr(x, what))
            found[key] = found.get(key, 0) + x.bytes
        return found
