"""Blocks of tensors that share a kernel, and the tasks into which the work on them is divided."""

import array
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _identity

CHUNK = 32768
"""Entries of a tensor that one task works on."""

REDUCTION_CHUNK = 4096
"""The same where something is summed: within a task in the compute dtype, over tasks in float64,
so rounding does not grow with the tensor."""

PARAMETER, GRADIENT = 0, 1
"""The roles of the first two columns of a block; slots follow."""


class Roles(NamedTuple):
    """The roles of the columns of a block: parameter, gradient, slots; out of place, the results.

    These are update, or new parameter, and new slots, in the same order.
    """

    slots: int  # how many entries they have
    out_of_place: bool

    def target(self, role: int) -> int:
        """Where the new value of a parameter or slot is stored: there, or among the results."""
        given = GRADIENT + 1 + self.slots
        return given + max(role - GRADIENT, 0) if self.out_of_place else role

    def is_written(self, role: int) -> bool:
        """Whether results are stored there."""
        return role >= self.target(PARAMETER) and role != GRADIENT


_NONE = torch.empty(0, device="cpu")
"""In the place of a tensor that a scratch column has not."""


class Block:
    """Tensors of the same dtypes, as columns: parameters, gradients, and each entry of the slots.

    A leaf is the position of a parameter in its column; the role of a column is its position. `per`
    says of each column how many entries share one of its numbers, by default none do.
    """

    def __init__(
        self,
        indices: Sequence[int],
        columns: Sequence[Sequence[Tensor]],
        roles: Roles,
        per: Sequence[int] = (),
    ) -> None:
        self.indices = list(indices)  # of each leaf among all tensors of the step
        self.roles = roles
        self.leaves = len(self.indices)
        self.device = columns[0][0].device
        self.given = len(columns)  # the columns after these are scratch
        self.per = list(per) or [1] * self.given
        self.set_columns(columns)
        self.lengths = [x.numel() for x in self.columns[PARAMETER]]
        self._tasks: dict[Any, Tasks] = {}

    def set_columns(self, columns: Sequence[Sequence[Tensor]]) -> None:
        """Uses the tensors of this step, whose metadata is that of the first ones."""
        self.columns = [list(column) for column in columns]
        self._addresses: dict[int, array.array[int]] = {}  # by role

    def set_gradients(self, gradients: list[Tensor], same_addresses: bool) -> None:
        """Uses the gradients of this step; the other tensors are the same objects as before."""
        self.columns[GRADIENT] = gradients
        if same_addresses:
            self._addresses.pop(GRADIENT, None)
        else:
            self._addresses = {}

    def replace(self, role: int, leaf: int, x: Tensor) -> None:
        """Uses another tensor for one leaf of a column."""
        self.columns[role][leaf] = x
        self._addresses = {}

    def scratch_role(self) -> int:
        """The role of a new column, whose tensors live for one step."""
        self.columns.append([_NONE] * self.leaves)
        return len(self.columns) - 1

    def set_scratch(self, role: int, leaf: int, x: Tensor) -> None:
        """Uses a tensor for one leaf of such a column."""
        while len(self.columns) <= role:
            self.scratch_role()
        self.columns[role][leaf] = x
        self._addresses.pop(role, None)

    def drop_scratch(self) -> None:
        """Drops the tensors of all such columns, and the columns."""
        for role in range(self.given, len(self.columns)):
            self._addresses.pop(role, None)
        del self.columns[self.given :]

    def pointers(self, roles: tuple[int, ...]) -> "array.array[int]":
        """The addresses of the tensors of these columns, column by column."""
        found = array.array("q")
        for role in roles:
            if role not in self._addresses:
                self._addresses[role] = _identity.addresses(self.columns[role])
            found.extend(self._addresses[role])
        return found

    def tasks(self, cells: tuple[tuple[int, ...], ...], chunk: int) -> "Tasks":
        """The tasks for these cells, each a tuple of leaves that share a row of scalars."""
        key = (cells, chunk)
        if key not in self._tasks:
            self._tasks[key] = Tasks(self.lengths, cells, chunk)
        return self._tasks[key]


class Tasks:
    """Pieces of tensors of about equal size, which are worked on in parallel."""

    def __init__(self, lengths: Sequence[int], cells: Sequence[Sequence[int]], chunk: int) -> None:
        self.leaves = [leaf for cell in cells for leaf in cell]
        self.entries = sum(lengths[leaf] for leaf in self.leaves)
        owner: list[int] = []  # of every task: the position of its leaf in `leaves`
        self._table = array.array("q")
        for position, leaf in enumerate(self.leaves):
            for start in range(0, lengths[leaf], chunk):
                self._table.extend((leaf, start, min(chunk, lengths[leaf] - start)))
                owner.append(position)
        rows = [0] * len(lengths)
        for row, cell in enumerate(cells):
            for leaf in cell:
                rows[leaf] = row
        self._rows = array.array("q", rows)
        self.count = len(owner)
        self.table_address = self._table.buffer_info()[0]
        self.rows_address = self._rows.buffer_info()[0]
        self._owner = torch.tensor(owner, dtype=torch.int64, device="cpu")
        self._one_each = owner == list(range(len(self.leaves)))
        self.sent: Any = None  # the same on devices, for kernels that need it there

    def spans(self) -> list[tuple[int, int]]:
        """The first task of every leaf, in the order of `leaves`, and the first one after them."""
        counts = torch.bincount(self._owner, minlength=len(self.leaves)).tolist()
        ends = list(itertools.accumulate(counts))
        return [(end - count, end) for end, count in zip(ends, counts, strict=True)]

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """Leaf, start, length and row of every task."""
        each = zip(*(self._table[i::3] for i in range(3)), strict=True)
        return ((leaf, start, n, self._rows[leaf]) for leaf, start, n in each)

    def reduce_leaves(self, out: Tensor, combine: str) -> Tensor:
        """The measures of every leaf, in the order of `leaves`, from those of the tasks."""
        if self._one_each:
            return out + 0.0  # as a sum of one number
        empty = {"sum": 0.0, "max": -torch.inf, "min": torch.inf}[combine]
        if self._owner.device != out.device:
            self._owner = self._owner.to(out.device, non_blocking=True)
        found = out.new_full((len(self.leaves), out.shape[1]), empty)
        if combine == "sum":
            return found.index_add_(0, self._owner, out)
        owner = self._owner[:, None].expand_as(out)  # `index_reduce_` warns
        return found.scatter_reduce_(0, owner, out, "amax" if combine == "max" else "amin")


def as_real(x: Tensor) -> Tensor:
    """A tensor as rules see it: a complex one as pairs of reals."""
    return torch.view_as_real(x) if x.is_complex() else x


def is_dense(x: Tensor) -> bool:
    """Whether its entries fill a piece of memory without holes or overlaps, in any order."""
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


def same_memory_order(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors of one shape are dense and have their entries in the same order in memory."""
    first = tensors[0]
    if all(x.is_contiguous() for x in tensors):
        return True
    return is_dense(first) and all(_strides(x) == _strides(first) for x in tensors)


def _strides(x: Tensor) -> Any:
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1]


def as_vector(x: Tensor) -> Tensor:
    """A dense tensor as a vector, in the order of memory."""
    return x if x.dim() == 1 and x.is_contiguous() else x.as_strided((x.numel(),), (1,))


def overlap(columns: Sequence[Sequence[Tensor]]) -> bool:
    """Whether two tensors share memory: then the order of writes would matter."""
    spans = sorted(
        (x.data_ptr(), x.data_ptr() + x.numel() * x.element_size())
        for column in columns
        for x in column
        if x.numel() and x.data_ptr()
    )
    return any(one[1] > other[0] for one, other in itertools.pairwise(spans))
