"""Functions of 0-d tensors as kernels of Triton, of which each program writes a row of results."""

import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._scalar_code import Found, ScalarListing
from ._launch import Sent, TableLaunch, function_of, launch
from ._source import scalar_source


class DeviceKernel:
    """A listing of scalars as a launch. Nothing is waited for."""

    def __init__(self, of: ScalarListing) -> None:
        self.dtypes = of.dtypes
        self._columns = [of.outputs.count(dtype) for dtype in self.dtypes]
        self.source = scalar_source(*of)
        self.key = self.source, self.dtypes, tuple(self._columns)

    def over(self, ranges: Sequence[tuple[int, int, int]]) -> Callable[..., Found]:
        """The kernel of some programs."""
        sent = Sent(x for one in ranges for x in one)

        def run(part: Tensor, rows: Sequence[Sequence[Any]]) -> Found:
            return self._launch(part.device, rows, [part, sent.on(part.device)], len(ranges))

        return run

    def alone(self, device: torch.device, row: Sequence[Any]) -> Found:
        """Runs it where nothing is measured."""
        return self._launch(device, [row], (), 1) if self.dtypes else []

    def _launch(
        self,
        device: torch.device,
        rows: Sequence[Sequence[Any]],
        parts: Sequence[Tensor],
        programs: int,
    ) -> Found:
        made = [
            torch.empty(programs, columns, dtype=dtype, device=device)
            for dtype, columns in zip(self.dtypes, self._columns, strict=True)
        ]
        function = function_of(self.source)
        given = TableLaunch(function, programs, parts, array.array("q"), rows, made, made, True)
        launch(given, device)
        return [[column.unbind() for column in x.unbind(1)] for x in made]
