"""Functions of 0-d tensors as kernels: what they return, and where each value of it lies."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .._core.conclude import STATIC_TYPES
from ._calls import ScalarInput
from ._guards import Guard, ScalarSource, Unsupported
from ._scalar_graph import ScalarGraph
from ._symbols import ScalarSymbol, Symbol
from ._translation import Listing

Found = list[list[Sequence[Tensor]]]
"""Results, by tensor, column and program."""


class Result(NamedTuple):
    """Where a value lies that a kernel makes: in which of its tensors, and in which column."""

    tensor: int
    column: int


class ScalarListing(NamedTuple):
    """What a kernel of 0-d tensors is made of."""

    listing: Listing  # what is computed, in float64
    totals: Sequence[int | None]  # which measure each of its scalars is, if it is one
    measured: Sequence[torch.dtype]  # to which sums are rounded
    outputs: Sequence[torch.dtype]  # of what it writes
    combine: str  # how parts are combined: "sum", "max" or "min"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Those of the tensors of results, each of which has a column for each result."""
        return tuple(dict.fromkeys(self.outputs))


class ScalarKernel(Protocol):
    """A kernel that makes results for each program: once, or for each tensor."""

    @property
    def key(self) -> Any:
        """What is the same where kernels are."""
        ...

    def over(self, ranges: Sequence[tuple[int, int, int]]) -> Callable[..., Found]:
        """The kernel of some programs: of the first and last part, and the row of scalars, of each.

        It is called with the parts, that is the measures of all tasks, and the rows.
        """
        ...


class ScalarCode(NamedTuple):
    """A traced function of 0-d tensors."""

    kernel: Any  # a `ScalarKernel`
    scalars: Sequence[ScalarSource]  # that the kernel reads
    returned: Any  # what it returns, with a `Result` or a source for each value
    guards: Sequence[Guard]

    def read(self, nodes: Any) -> list[Any]:
        """The scalars of a step."""
        return [x.read(nodes, 0) for x in self.scalars]

    def filled(self, nodes: Any, found: Found, program: int) -> Any:
        """What the function returns, for one of the programs."""
        return _filled(self.returned, nodes, found, program)


def scalar_code(
    graph: ScalarGraph,
    returned: Any,
    kernel: Callable[[ScalarListing], ScalarKernel],
    measured: Sequence[torch.dtype] = (),
    combine: str = "sum",
) -> ScalarCode:
    """The kernel of what a function has returned for values of a graph.

    Raises:
        Unsupported: If there is no instruction for something in it.
    """
    outputs: list[Symbol] = []
    returned = _placed(returned, graph, outputs, {})
    listing, inputs = graph.listing(outputs)
    totals = [at if graph.sources[at] is None else None for at in inputs]
    made = ScalarListing(listing, totals, measured, [x.meta.dtype for x in outputs], combine)
    read = [graph.sources[at] for at in inputs if graph.sources[at] is not None]
    return ScalarCode(kernel(made), read, returned, graph.guards)


def has(kind: type, x: Any) -> bool:
    """Whether there is one of this kind in what a function returns."""
    if isinstance(x, dict):
        x = tuple(x.values())
    several = isinstance(x, (tuple, list)) and not isinstance(x, Result)
    return isinstance(x, kind) or (several and any(has(kind, y) for y in x))


# Functions that know themselves as closures would keep tensors until the collector comes.


def _placed(
    x: Any, graph: ScalarGraph, outputs: list[Symbol], columns: dict[torch.dtype, int]
) -> Any:
    """A `Result` for each symbol that is computed, which is put out, and a source for the known."""
    if isinstance(x, ScalarSymbol):
        return x.source
    if isinstance(x, Symbol):
        value = graph.values[x.at]
        if isinstance(value, ScalarInput) and graph.sources[value.position] is not None:
            return graph.sources[value.position]
        outputs.append(x)
        columns[x.meta.dtype] = columns.get(x.meta.dtype, 0) + 1
        return Result(list(columns).index(x.meta.dtype), columns[x.meta.dtype] - 1)
    if not isinstance(x, (dict, tuple, list, int, float, *STATIC_TYPES)):
        raise Unsupported(f"a `{type(x).__name__}`, in which a tensor may be hidden")
    return _mapped(_placed, x, graph, outputs, columns)


def _filled(x: Any, nodes: Any, found: Found, program: int) -> Any:
    if isinstance(x, Result):
        return found[x.tensor][x.column][program]
    if isinstance(x, ScalarSource):
        return x.read(nodes, 0)
    return _mapped(_filled, x, nodes, found, program)


def _mapped(function: Callable[..., Any], x: Any, *given: Any) -> Any:
    """`x` with `function` of all that is in it; it is called of no leaf of other types."""
    if isinstance(x, dict):
        return {key: function(value, *given) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        made = [function(value, *given) for value in x]
        return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)
    return x
