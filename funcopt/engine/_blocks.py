"""Tensors that are worked on alike: how they lie in memory, and how the work is cut into tasks."""

import array
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core import precision
from . import _identity

CHUNK = 32768
"""Entries of a tensor that one task works on."""

MEASURED = 4096
"""The same where something is summed: in a task the sum is made in the dtype of the mathematics,
over tasks in float64, so rounding does not grow with the tensor."""


class Block:
    """Tensors whose parts have the same dtypes: parameter, gradient and the entries of the slots.

    A column has one of these of every leaf; columns are numbered by role.
    """

    def __init__(self, members: Sequence[int], columns: Sequence[Sequence[Tensor]]) -> None:
        self.members = list(members)  # their places among all tensors of the step
        self.leaves = len(self.members)
        self.device = columns[0][0].device
        self.set(columns)
        self.lengths = [x.numel() for x in self.columns[0]]
        self._tasks: dict[Any, Tasks] = {}

    def set(self, columns: Sequence[Sequence[Tensor]]) -> None:
        """The tensors of this step, in the layout of the first ones."""
        self.columns = [list(column) for column in columns]
        self._places: dict[int, array.array[int]] = {}  # by role

    def renew(self, gradients: list[Tensor], stay: bool) -> None:
        """The same tensors, with the gradients of this step; whether the others `stay` in place."""
        self.columns[1] = gradients
        if stay:
            self._places.pop(1, None)
        else:
            self._places = {}

    def replace(self, role: int, leaf: int, x: Tensor) -> None:
        """Another tensor in one place."""
        self.columns[role][leaf] = x
        self._places = {}

    def pointers(self, roles: tuple[int, ...]) -> "array.array[int]":
        """Where the tensors of these columns begin, column by column."""
        found = array.array("q")
        for role in roles:
            if role not in self._places:
                self._places[role] = _identity.addresses(self.columns[role])
            found.extend(self._places[role])
        return found

    def tasks(self, cells: tuple[tuple[int, ...], ...], chunk: int) -> "Tasks":
        """The work on these cells, each of them leaves that share a row of numbers."""
        key = (cells, chunk)
        if key not in self._tasks:
            self._tasks[key] = Tasks(self.lengths, cells, chunk)
        return self._tasks[key]


class Tasks:
    """Pieces of tensors of about one size."""

    def __init__(self, lengths: Sequence[int], cells: Sequence[Sequence[int]], chunk: int) -> None:
        self.cells = cells
        self.leaves = [leaf for cell in cells for leaf in cell]
        self.row_of = [row for row, cell in enumerate(cells) for _ in cell]
        self.entries = sum(lengths[leaf] for leaf in self.leaves)
        self.owner: list[int] = []  # of every task: the place of its leaf in `leaves`
        self._table = array.array("q")
        for place, leaf in enumerate(self.leaves):
            for start in range(0, lengths[leaf], chunk):
                self._table.extend((leaf, start, min(chunk, lengths[leaf] - start)))
                self.owner.append(place)
        rows = [0] * len(lengths)
        for leaf, row in zip(self.leaves, self.row_of, strict=True):
            rows[leaf] = row
        self._rows = array.array("q", rows)
        self.count = len(self.owner)
        self.table_at = self._table.buffer_info()[0]
        self.rows_at = self._rows.buffer_info()[0]
        self._owner = torch.tensor(self.owner, dtype=torch.int64, device="cpu")

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """Leaf, start, length and row of every task."""
        each = zip(*(self._table[i::3] for i in range(3)), strict=True)
        return ((leaf, start, n, self._rows[leaf]) for leaf, start, n in each)

    def gathered(self, out: Tensor, how: str) -> Tensor:
        """What the tasks have measured, leaf by leaf, in the order of `leaves`."""
        empty = {"sum": 0.0, "max": -torch.inf, "min": torch.inf}[how]
        if self._owner.device != out.device:
            self._owner = self._owner.to(out.device)
        found = out.new_full((len(self.leaves), out.shape[1]), empty)
        if how == "sum":
            return found.index_add_(0, self._owner, out)
        return found.index_reduce_(0, self._owner, out, "amax" if how == "max" else "amin")


def real(x: Tensor) -> Tensor:
    """A tensor as rules see it, complex numbers as pairs."""
    return torch.view_as_real(x) if x.is_complex() else x


def is_dense(x: Tensor) -> bool:
    """Whether its entries fill a piece of memory, in whatever order, each of them once."""
    if x.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected = stride * size
    return True


def is_alike(columns: Sequence[Tensor]) -> bool:
    """Whether the parts of one leaf lie in memory in the same order, so that it can be walked."""
    first = columns[0]
    if all(x.is_contiguous() for x in columns):
        return True
    return is_dense(first) and all(_order(x) == _order(first) for x in columns)


def _order(x: Tensor) -> Any:
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1]


def flat(x: Tensor) -> Tensor:
    """A dense tensor as a vector, in the order of memory."""
    return x if x.dim() == 1 and x.is_contiguous() else x.as_strided((x.numel(),), (1,))


def compute_dtype(columns: Sequence[Tensor]) -> torch.dtype:
    return precision.compute_dtype(columns[1], columns[0], tuple(columns[2:]))


def overlap(columns: Sequence[Sequence[Tensor]]) -> bool:
    """Whether memory that is written is also another's: then the order of work would matter."""
    spans = sorted(
        (x.data_ptr(), x.data_ptr() + x.numel() * x.element_size())
        for column in columns
        for x in column
        if x.numel() and x.data_ptr()
    )
    return any(one[1] > other[0] for one, other in itertools.pairwise(spans))
