"""Functions of 0-d tensors as kernels: what they return, and where each value of it lies."""

import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._calls import ScalarInput
from .._guards import Guard, ScalarSource
from .._scalar_graph import ScalarGraph
from .._symbols import ScalarSymbol, Symbol
from ._launch import TableLaunch, function_of, launch
from ._source import scalar_source


class Result(NamedTuple):
    """Where a value lies that a kernel makes: in which of its tensors, and in which column."""

    tensor: int
    column: int


class ScalarCode(NamedTuple):
    """A traced function of 0-d tensors."""

    source: str
    scalars: Sequence[ScalarSource]  # that the kernel reads
    dtypes: tuple[torch.dtype, ...]  # of the tensors of its results, each with so many columns
    columns: tuple[int, ...]
    returned: Any  # what it returns, with a `Result` or a source for each value
    guards: Sequence[Guard]

    @property
    def kind(self) -> Any:
        """What has to be the same where one launch runs several."""
        return self.source, self.dtypes, self.columns

    def launch(
        self,
        device: torch.device,
        rows: Sequence[Sequence[Any]],
        parts: Sequence[Tensor] = (),
        programs: int = 1,
    ) -> list[list[Sequence[Tensor]]]:
        """Runs it once for each program; returns its results, by tensor, column and program.

        `parts` are what was measured, and the ranges of each program, if something is measured.
        """
        made = [
            torch.empty(programs, columns, dtype=dtype, device=device)
            for dtype, columns in zip(self.dtypes, self.columns, strict=True)
        ]
        function = function_of(self.source)
        given = TableLaunch(function, programs, parts, array.array("q"), rows, made, made, True)
        launch(given, device)
        return [[column.unbind() for column in x.unbind(1)] for x in made]

    def read(self, nodes: Any) -> list[Any]:
        """The scalars of a step."""
        return [x.read(nodes, 0) for x in self.scalars]

    def filled(self, nodes: Any, found: Any, program: int) -> Any:
        """What the function returns, for one of the programs."""

        def of(x: Any) -> Any:
            if isinstance(x, Result):
                return found[x.tensor][x.column][program]
            if isinstance(x, ScalarSource):
                return x.read(nodes, 0)
            return _mapped(of, x)

        return of(self.returned)


def scalar_code(
    graph: ScalarGraph, returned: Any, measured: Sequence[torch.dtype] = (), combine: str = "sum"
) -> ScalarCode:
    """The kernel of what a function has returned for values of a graph.

    Raises:
        Unsupported: If there is no instruction for something in it.
    """
    outputs: list[Symbol] = []
    columns: dict[torch.dtype, int] = {}

    def placed(x: Any) -> Any:
        """A `Result` for a symbol that is computed, a source for what is known."""
        if isinstance(x, ScalarSymbol):
            return x.source
        if not isinstance(x, Symbol):
            return _mapped(placed, x)
        value = graph.values[x.at]
        if isinstance(value, ScalarInput) and graph.sources[value.position] is not None:
            return graph.sources[value.position]
        outputs.append(x)
        columns[x.meta.dtype] = columns.get(x.meta.dtype, 0) + 1
        return Result(list(columns).index(x.meta.dtype), columns[x.meta.dtype] - 1)

    returned = placed(returned)
    listing, inputs = graph.listing(outputs)
    totals = [at if graph.sources[at] is None else None for at in inputs]
    source = scalar_source(listing, totals, measured, [x.meta.dtype for x in outputs], combine)
    read = [graph.sources[at] for at in inputs if graph.sources[at] is not None]
    return ScalarCode(source, read, tuple(columns), tuple(columns.values()), returned, graph.guards)


def has_result(x: Any) -> bool:
    """Whether something in it is computed by the kernel."""
    return isinstance(x, Result) or (isinstance(x, (tuple, list)) and any(map(has_result, x)))


def _mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """`x` with `function` of all that is in it; it is called of no leaf of other types."""
    if isinstance(x, dict):
        return {key: function(value) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        made = map(function, x)
        return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)
    return x
