"""A lowered graph as one launch for all tensors of a block."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._blocks import Block, Tasks
from .._foreach import no_measures
from .._lowering import LoweredGraph
from .._translation import translate
from ._launch import Sent, TableLaunch, function_of, is_interpreted, launch, on, options
from ._source import books, looks_up, pass_source


class TritonKernel:
    """A kernel of Triton, which works on all tensors in one launch."""

    chunk = 16384

    def __init__(self, lowered: LoweredGraph, device: torch.device) -> None:
        self._lowered, self._measures = lowered, len(lowered.measures)
        listing = translate(lowered)
        self._books = [_books(device)] if looks_up(listing) else []
        self._function = function_of(pass_source(listing))
        if not is_interpreted() and device.type != "meta":
            books = [torch.float32] * len(self._books)
            given = [
                torch.int64,
                *books,
                torch.int64,
                *[torch.float64] * bool(self._measures),
            ]  # pointers
            with on(device):  # now, and not in the middle of a step
                self._function.warmup(*given, 1, grid=(1,), **options())

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        device = block.device
        if not tasks.count:
            return no_measures(self._lowered, device)
        out = []
        if self._measures:
            out = [torch.empty(tasks.count, self._measures, dtype=torch.float64, device=device)]
        launch(
            TableLaunch(
                self._function,
                tasks.count,
                before=[_sent(tasks).on(device), *self._books],
                pointers=block.pointers(roles),
                rows=rows,
                after=[*out, block.leaves],
                writes=out,
            ),
            device,
        )
        return out[0] if out else None


@functools.cache
def _books(device: torch.device) -> Tensor:
    """The numbers that codes stand for, on a device."""
    return torch.tensor(books(), dtype=torch.float32, device=device)


def _sent(tasks: Tasks) -> Sent:
    """Leaf, start, length and row of every task."""
    if tasks.sent is None:
        tasks.sent = Sent(itertools.chain.from_iterable(tasks))
    sent: Sent = tasks.sent
    return sent
