"""A plan: what a rule does with a whole tensor, as passes over tiles and functions of torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core.stage import Scalars
from ._call_log import Item, NotedCall, Value, read, resolved
from ._guards import ScalarSource
from ._tiles import Extent, TilePass, Tiling


class Reduction(NamedTuple):
    """What is measured: of a value, over dimensions, the last two of which are of a matrix."""

    of: int
    name: str
    dims: frozenset[int]
    divisor: int  # of a mean

    def finish(self, x: Tensor, like: Value) -> Tensor:
        """The result, of the numbers of rows, or of columns."""
        rest = [dim for dim in self.dims if x.shape[dim] != 1]
        x = getattr(torch, self.name)(x, rest) if rest else x
        return (x if self.divisor == 1 else x / self.divisor).reshape(like.shape).to(like.dtype)


class CallStep(NamedTuple):
    """A function of torch, or one of the tensors that it has returned."""

    at: int
    call: NotedCall | Item

    @property
    def uses(self) -> set[int]:
        """The values that it needs."""
        return set(self.call.refs)

    def run(self, values: list[Any], given: Any) -> None:
        """Calls it."""
        if isinstance(self.call, Item):
            values[self.at] = values[self.call.of][self.call.key]
            return
        args = [resolved(x, values, given) for x in self.call.args]
        kwargs = resolved(self.call.kwargs, values, given)
        values[self.at] = self.call.func(*args, **kwargs)


class PassStep(NamedTuple):
    """A pass over the tiles of matrices of one shape."""

    kernel: TilePass
    shape: torch.Size
    tiling: Tiling
    inputs: Sequence[tuple[int, Extent]]
    numbers: Sequence[int]  # the values that it reads as scalars
    made: Sequence[int]
    of_rows: Sequence[tuple[int, Reduction, Value]]
    of_columns: Sequence[tuple[int, Reduction, Value]]

    @property
    def uses(self) -> set[int]:
        """The values that it needs."""
        return {at for at, _ in self.inputs} | set(self.numbers)

    @property
    def traffic(self) -> int:
        """How many whole tensors it reads and writes."""
        return len(self.made) + sum(extent is Extent.ENTRIES for _, extent in self.inputs)

    def run(self, values: list[Any], given: Any) -> None:
        """Makes it."""
        *batch, rows, columns = self.shape
        shapes = {Extent.ENTRIES: self.shape, Extent.ROWS: (*batch, rows, 1)}
        shapes[Extent.COLUMNS] = (*batch, 1, columns)
        tensors = [self._laid_out(values[at], shapes[extent]) for at, extent in self.inputs]
        scalars = [read(source, given) for source in self.kernel.scalars]
        made, of_rows, of_columns = self.kernel(self.tiling, tensors, scalars)
        for at, x in zip(self.made, made, strict=True):
            values[at] = x.view(self.shape)
        for (at, how, like), x in zip(self.of_rows, of_rows, strict=True):
            values[at] = how.finish(x.view(shapes[Extent.ROWS]), like)
        for (at, how, like), x in zip(self.of_columns, of_columns, strict=True):
            values[at] = how.finish(x.view(shapes[Extent.COLUMNS]), like)

    def _laid_out(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        x = x.to(self.kernel.dtype)  # flags of rows or columns
        return x if x.shape == shape and x.is_contiguous() else x.expand(shape).contiguous()


Step = CallStep | PassStep


class Plan(NamedTuple):
    """The steps that make the update and the new slots of a tensor, in any step of its kind."""

    size: int  # how many values there are
    scalars: Sequence[tuple[int, ScalarSource]]  # those that are tensors
    steps: Sequence[tuple[Step, Sequence[int]]]  # and the values that are dropped after each
    u: int
    new: Sequence[int]
    spec: tree.Spec[Any]  # of the new slots

    def run(self, tensors: Sequence[Tensor], s: Scalars) -> tuple[Tensor, Any]:
        """Makes them of the tensors and scalars that are given."""
        values: list[Any] = [*tensors, *[None] * (self.size - len(tensors))]
        given = (s, values)
        for at, source in self.scalars:
            values[at] = read(source, given)
        for step, dropped in self.steps:
            step.run(values, given)
            for at in dropped:
                values[at] = None
        return values[self.u], self.spec.unflatten([values[at] for at in self.new])
