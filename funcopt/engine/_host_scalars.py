"""Functions of 0-d tensors by the machine of the CPU, of which each program is an entry.

By operations of torch, each function takes a microsecond or two: more than the kernels of a small
step.
"""

import array
import ctypes
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from . import _machine
from ._bytecode import BLOCK_OF_SCALARS, assemble
from ._calls import Input
from ._guards import Unsupported
from ._instructions import NARROW
from ._ready_call import Words, repeats_steps
from ._scalar_code import Found, ScalarListing
from ._translation import VARYING, Instruction, Listing, Register

COMBINED = {"sum": 0, "max": 1, "min": 2}

STORED = {torch.bool: torch.uint8, torch.int64: torch.float64}
"""How the machine stores results, where not in their own dtype."""

FIRST = 7
"""Where the launches that measure first stand among the words of a conclusion."""


class HostKernel:
    """A listing of scalars as bytecode: columns of totals are read, those of results written."""

    def __init__(self, of: ScalarListing) -> None:
        self.program = assemble(_of_columns(of), BLOCK_OF_SCALARS)
        self.driver = _machine.driver(torch.float64)
        if not repeats_steps():
            raise Unsupported("there is no machine code that repeats steps")
        self.measures, self.combine = len(of.measured), COMBINED[of.combine]
        self.width = of.totals.count(None)
        self.outputs, self.dtypes = of.outputs, of.dtypes
        self.key = tuple(x.tobytes() for x in self.program), tuple(of.outputs)

    def over(self, ranges: Sequence[tuple[int, int, int]]) -> "HostPrograms":
        """The kernel of some programs."""
        return HostPrograms(self, ranges)


class HostPrograms:
    """A kernel with its programs, and memory for totals and results."""

    def __init__(self, kernel: HostKernel, ranges: Sequence[tuple[int, int, int]]) -> None:
        self._kernel, programs = kernel, len(ranges)
        cases = 1 + max(case for _, _, case in ranges)
        totals = torch.empty(kernel.measures, programs, dtype=torch.float64, device="cpu")
        self._tables = [
            torch.empty(kernel.outputs.count(x), programs, dtype=STORED.get(x, x), device="cpu")
            for x in kernel.dtypes
        ]
        rows_of = {x: iter(table) for x, table in zip(kernel.dtypes, self._tables, strict=True)}
        columns = [*totals, *(next(rows_of[x]) for x in kernel.outputs)]
        pointers = array.array("q", [x.data_ptr() for x in columns for _ in range(cases)])
        tasks = array.array("q", [x for task in _tasks(ranges) for x in task])
        self._rows = array.array("d", bytes(8 * cases * kernel.width))
        addresses = [x.buffer_info()[0] for x in kernel.program]
        self._launch = Words(
            *(ctypes.cast(kernel.driver, ctypes.c_void_p).value or 0, *addresses),
            *(len(tasks) // 3, tasks, pointers, cases),
            *(self._rows, array.array("q", range(cases)), 0, 1, 1),
        )
        self._words = Words(
            *(0, array.array("q", [x for one in ranges for x in one[:2]]), programs),
            *(kernel.measures, kernel.combine, totals.data_ptr(), self._launch, 0, 0),
        )
        self._totals = totals
        self._call = self._words.call("conclude")
        self.found: Found = [
            [column.unbind() for column in self._as_returned(x, dtype)]
            for x, dtype in zip(self._tables, kernel.dtypes, strict=True)
        ]
        """The results of the last call, if `has_views`."""

        self.has_views = torch.int64 not in kernel.dtypes  # which are stored otherwise

    def __call__(self, part: Tensor, rows: Sequence[Sequence[Any]]) -> Found:
        """The results of these parts, in memory of their own."""
        self.read(part)
        return self.copied(rows)

    def read(self, part: Tensor) -> None:
        """Reads parts from here."""
        self._part, self._words[0] = part, part.data_ptr()

    def measure_first(self, launches: Sequence[Words]) -> None:
        """Runs these, whose parts are read, before it concludes: one call instead of many."""
        self._words.replace(FIRST, Words(*launches), len(launches))

    def written(self, rows: Sequence[Sequence[Any]]) -> Found:
        """The results, where those of the call before were."""
        if self._rows:
            self._rows[:] = array.array("d", [float(x) for row in rows for x in row])
        self._call()
        return self.found

    def copied(self, rows: Sequence[Sequence[Any]]) -> Found:
        """The results, in memory of their own."""
        self.written(rows)
        each = zip(self._tables, self._kernel.dtypes, strict=True)
        made = (self._as_returned(x.clone(), dtype) for x, dtype in each)
        return [[column.unbind() for column in x] for x in made]

    @staticmethod
    def _as_returned(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.view(dtype) if dtype is torch.bool else x.to(dtype)


def _tasks(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Programs side by side that read the same row of scalars: that row, the first, how many."""
    found, begin = [], 0
    for case, each in groupby(case for _, _, case in ranges):
        count = len(list(each))
        found.append((case, begin, count))
        begin += count
    return found


def _of_columns(of: ScalarListing) -> Listing:
    """The listing with a column for each total and each result."""
    listing, count = of.listing, len(of.measured)
    scalars = (k for k, total in enumerate(of.totals) if total is None)
    names = {Register("scalar", k): Register("scalar", at) for at, k in enumerate(scalars)}
    free = 1 + max((x.to.number for x in listing.uniform), default=0)
    body: list[Instruction] = []
    for k, total in enumerate(of.totals):
        if total is None:
            continue
        register = Register("tensor", total)
        if (narrow := NARROW.get(of.measured[total])) is not None:
            rounded = Register("value", free + k)
            body.append(Instruction(f"round_{narrow}", rounded, (register,)))
            register = rounded
        names[Register("scalar", k)] = register
    uniform: list[Instruction] = []
    for one in listing.uniform:
        made = one.renamed(names)
        if any(x.kind in VARYING for x in made.args):
            names[one.to] = Register("value", one.to.number)
            body.append(made._replace(to=names[one.to]))
        else:
            uniform.append(made)
    outputs = (STORED.get(x, x) for x in of.outputs)
    dtypes = [*[torch.float64] * count, *outputs]
    return listing._replace(
        tensors=tuple(Input(k, dtype) for k, dtype in enumerate(dtypes)),
        scalars=of.totals.count(None),
        uniform=tuple(uniform),
        body=tuple(body),
        writes=tuple((count + k, names.get(x, x)) for k, (_, x) in enumerate(listing.writes)),
    )
