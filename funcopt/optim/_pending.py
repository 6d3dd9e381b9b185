"""Numbers on their way from a device: written when they have arrived, so that no step waits."""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics.scalars import double
from ._writers import Write


class _Row(NamedTuple):
    step: int
    keys: list[str]
    values: list[Tensor]  # vectors on the CPU, which may still be filled
    arrived: list[Any]  # events


class Pending:
    """The steps that are to be written, in order."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rows: deque[_Row] = deque()

    def add(self, values: Mapping[str, Tensor], step: int) -> None:
        """Takes the numbers of a step as they are now; writes those that have arrived."""
        by_device: dict[torch.device, dict[str, Tensor]] = {}
        for key, value in values.items():
            by_device.setdefault(value.device, {})[key] = value
        row = _Row(step, [key for own in by_device.values() for key in own], [], [])
        for device, own in by_device.items():
            vector = torch.stack([double(x.detach().reshape(())) for x in own.values()])
            row.values.append(vector if device.type == "cpu" else _sent(vector, row.arrived))
        self._rows.append(row)
        self.write_arrived()

    def write_arrived(self) -> None:
        """Writes what is there, up to the first step that is not."""
        while self._rows and all(event.query() for event in self._rows[0].arrived):
            self._write_first()

    def flush(self) -> None:
        """Writes all; waits for what is on its way."""
        while self._rows:
            for event in self._rows[0].arrived:
                event.synchronize()
            self._write_first()

    def _write_first(self) -> None:
        row = self._rows.popleft()
        numbers = [x for vector in row.values for x in vector.tolist()]
        self._write(dict(zip(row.keys, numbers, strict=True)), row.step)


def _sent(vector: Tensor, arrived: list[Any]) -> Tensor:
    """A vector of a device as it will be on the CPU; on CUDA, this does not wait."""
    if vector.device.type != "cuda":
        return vector.cpu()
    there = torch.empty(vector.shape, dtype=vector.dtype, device="cpu", pin_memory=True)
    there.copy_(vector, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(vector.device))
    arrived.append(event)
    return there
