"""Memory of the host from which a device copies numbers, without being waited for."""

import torch
from torch import Tensor

from ..._numerics.capturing import is_capturing

LEAST = 2**16
"""Numbers for which there is room in a reserve, at least: half a MiB."""

ROOM = 16
"""How many copies of the same size a reserve has room for."""


class Reserve:
    """Pinned memory for captures of CUDA graphs, within which none can be allocated.

    Replays copy again what was copied in the capture, so what is taken is never used again.
    """

    def __init__(self) -> None:
        self._memory: list[Tensor] = []  # the last is the one that is taken from
        self._used = 0

    def make_room(self, numbers: int) -> None:
        """Sees to it that there is room, before a capture."""
        if not self._memory or len(self._memory[-1]) - self._used < numbers:
            self._memory.append(allocated(max(LEAST, numbers)))
            self._used = 0

    def take(self, numbers: Tensor) -> Tensor:
        """A copy of numbers, that stays."""
        end = self._used + len(numbers)
        if not self._memory or end > len(self._memory[-1]):  # there was no step before the capture
            self._memory.append(allocated(len(numbers)))
            self._used, end = 0, len(numbers)
        taken = self._memory[-1][self._used : end]
        self._used = end
        return taken.copy_(numbers)


_reserve = Reserve()


def allocated(numbers: int) -> Tensor:
    """Pinned memory for so many."""
    return torch.empty(numbers, dtype=torch.int64, device="cpu", pin_memory=True)


def pinned(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers where a device copies them from."""
    if is_capturing(device):
        return _reserve.take(numbers)
    _reserve.make_room(ROOM * len(numbers))
    return numbers.pin_memory()  # which is used again when the copy is done
