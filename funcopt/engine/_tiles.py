"""Passes over matrices by tiles: some columns of some rows, of which rows and columns are measured.

The machine runs the same programs as over lists of tensors. A tensor may have one number for each
row, or for each column; what is measured has one for each row, or for each column, of every tile,
and is then combined.
"""

import array
import os
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _bytecode, _machine, _threads
from ._graph import Graph
from ._guards import Unsupported
from ._kernels import probe_of_threads
from ._lowering import lower_graph
from ._symbols import Symbol
from ._translation import translate

WIDTH = 5 * _bytecode.BLOCK
"""Columns of a tile, at most: what is measured of them stays in the cache next to a core."""

ENTRIES = 65536
"""Of a tile, about: what is measured of columns is then few numbers beside them."""

LEAST_COLUMNS = 64
"""For fewer, each row is too little work: functions of torch do better."""


class Extent(IntEnum):
    """What a tensor has numbers for; the last three are measures of columns."""

    ENTRIES = 0
    ROWS = 1
    COLUMNS = 2
    SUMS = 3
    MAXIMA = 4
    MINIMA = 5


class Measured(NamedTuple):
    """How what is measured of columns is kept, grows by a row, and is combined over tiles."""

    extent: Extent
    grown: Callable[..., Any]
    combined: Callable[..., Any]


MEASURED = {
    "sum": Measured(Extent.SUMS, torch.add, torch.sum),
    "amax": Measured(Extent.MAXIMA, torch.maximum, torch.amax),
    "amin": Measured(Extent.MINIMA, torch.minimum, torch.amin),
}
"""By the name of a reduction."""


class Tiling(NamedTuple):
    """Matrices of one shape, and the tiles of each of them."""

    matrices: int
    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, shape: Sequence[int]) -> "Tiling":
        """That of a tensor whose last two dimensions are of matrices."""
        *batch, rows, columns = shape
        width = min(columns, WIDTH)
        matrices = torch.Size(batch).numel()
        return cls(matrices, rows, columns, max(1, ENTRIES // width), width)

    @property
    def down(self) -> int:
        """How many tiles there are one below the other."""
        return -(-self.rows // self.height)

    @property
    def across(self) -> int:
        """How many there are side by side."""
        return -(-self.columns // self.width)


def is_chosen(option: str, device: torch.device) -> bool:
    """Whether the machine makes passes: on a CPU, where nothing else was asked for."""
    asked = os.environ.get("FUNCOPT_KERNELS", "bytecode") == "bytecode"
    return asked and option in ("auto", "fused") and device.type == "cpu"


class TilePass:
    """A graph of the entries of a matrix, as a pass over its tiles.

    Its inputs are numbered: `extents` has what each of them has numbers for. `made` are the values
    that it makes for entries, `of_rows` and `of_columns` what it measures: a reduction by its name,
    and the value that is reduced.

    Raises:
        Unsupported: If the machine cannot make it.
    """

    def __init__(
        self,
        graph: Graph,
        extents: Sequence[Extent],
        made: Sequence[Symbol],
        of_rows: Sequence[tuple[str, Symbol]],
        of_columns: Sequence[tuple[str, Symbol]],
    ) -> None:
        dtype, writes = graph.compute_dtype, dict[int, Symbol]()
        kinds = dict(enumerate(extents))
        for x in made:
            role = len(kinds)
            kinds[role] = Extent.ENTRIES
            graph.input(role, dtype)
            writes[role] = graph.copied(x)
        for name, x in of_columns:
            role = len(kinds)
            kinds[role] = MEASURED[name].extent
            writes[role] = MEASURED[name].grown(graph.input(role, dtype), x)
        measures = [getattr(torch, name)(x) for name, x in of_rows]
        lowering = lower_graph(graph, writes, measures)
        if lowering.lowered.sees_places:
            raise Unsupported("a pass over tiles that sees where its entries are")
        listing = translate(lowering.lowered)
        self._program = _bytecode.assemble(listing)
        self._drive = _machine.driver(dtype, "tiles")
        self._pointers = [x.buffer_info()[0] for x in self._program]
        self._extents = array.array("i", [kinds[role] for role in lowering.roles])
        self._roles, self._made = lowering.roles, len(made)
        self._of_rows = [name for name, _ in of_rows]
        self._of_columns = [name for name, _ in of_columns]
        self.dtype = dtype
        self._typecode = "f" if dtype is torch.float32 else "d"
        self.scalars = [graph.sources[k] for k in lowering.scalars]
        """Where it reads them, in its order."""

    def __call__(
        self, tiling: Tiling, given: Sequence[Tensor], scalars: Sequence[float]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """What it makes, as matrices; and what it measures of each row, and of each column.

        The tensors that are given are contiguous.
        """
        count, rows, columns, *_ = tiling

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype, device="cpu")

        made = [empty(count, rows, columns) for _ in range(self._made)]
        of_columns = [empty(count, tiling.down, columns) for _ in self._of_columns]
        of_rows = empty(len(self._of_rows), count, tiling.across, rows)
        tensors = dict(enumerate([*given, *made, *of_columns]))
        pointers = array.array("q", [tensors[role].data_ptr() for role in self._roles])
        numbers = array.array(self._typecode, map(float, scalars))
        sizes = array.array("q", tiling)
        threads = _threads.threads_for(count * rows * columns, probe_of_threads)
        addresses = (x.buffer_info()[0] for x in (self._extents, sizes, pointers, numbers))
        self._drive(*self._pointers, *addresses, of_rows.data_ptr(), threads)
        return (
            made,
            _combined(self._of_rows, of_rows.unbind()),
            _combined(self._of_columns, of_columns),
        )


def _combined(names: Sequence[str], parts: Sequence[Tensor]) -> list[Tensor]:
    """What is measured, of all tiles: the parts of (matrices, tiles, numbers)."""
    return [
        part.squeeze(1) if part.shape[1] == 1 else MEASURED[name].combined(part, 1)
        for name, part in zip(names, parts, strict=True)
    ]
