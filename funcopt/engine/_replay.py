"""A compiled step and its replay: kernels are launched with the scalars of another step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.reduction import MeasureSpec, conclude_measured
from .._core.stage import Node
from ._blocks import Block, Tasks
from ._guards import Guard, GuardFailed, ScalarSource, check_guards
from ._kernels import Kernel
from ._step import flatten_nodes


class CellScalars(NamedTuple):
    """Where the scalars of a cell are read: one row for all of it, or one for each tensor."""

    sources: Sequence[ScalarSource]
    indices: Sequence[int]  # of the tensors whose rows these are

    def rows(self, nodes: Sequence[Node]) -> list[list[Any]]:
        """The rows of a step."""
        first = [source.read(nodes, self.indices[0]) for source in self.sources]
        if len(self.indices) == 1:
            return [first]
        own = [(k, source.read) for k, source in enumerate(self.sources) if source.per_tensor]
        rows = [first]
        for i in self.indices[1:]:
            row = first.copy()
            for k, read in own:
                row[k] = read(nodes, i)
            rows.append(row)
        return rows


class Launch(NamedTuple):
    """One kernel over some cells of one block."""

    kernel: Kernel
    block: Block
    tasks: Tasks
    roles: tuple[int, ...]
    scalars: Sequence[CellScalars]

    def __call__(self, nodes: Sequence[Node]) -> Tensor | None:
        rows = [row for cell in self.scalars for row in cell.rows(nodes)]
        with torch.no_grad():  # derivatives end here: whoever takes them does not come this far
            return self.kernel(self.block, self.tasks, self.roles, rows)

    def measures(self, nodes: Sequence[Node], combine: str) -> Tensor:
        """Launches the kernel; returns the measures of every leaf, a row for each."""
        out = self(nodes)
        assert out is not None or not self.tasks.count
        if out is None:
            out = torch.empty(0, 1, dtype=torch.float64, device=self.block.device)
        return self.tasks.reduce_leaves(out, combine)


class ReductionPass(NamedTuple):
    """A pass over memory that ends with a reduction over all tensors."""

    guards: Sequence[Guard]
    launches: Sequence[Launch]
    node: int  # the index, among `flatten_nodes`, of the stage that reduces
    order: Tensor | None  # that sorts the rows of all launches by tensor; `None` if they are
    measures: MeasureSpec
    per_tensor_scalars: frozenset[str]  # of the node, afterwards

    def conclude(self, node: Node, tables: Sequence[Tensor]) -> None:
        """Reduces the measures of all launches, and calls the stage's `conclude`."""
        tables = tables or [self.measures.no_rows]
        table = torch.cat([x.to(tables[0].device) for x in tables])
        conclude_measured(node, table if self.order is None else table[self.order], self.measures)


class CompiledStep(NamedTuple):
    """All passes of a step: those that end with a reduction, and the last, which writes results."""

    reductions: Sequence[ReductionPass]
    guards: Sequence[Guard]
    launches: Sequence[Launch]


def replay(compiled: CompiledStep, root: Node) -> None:
    """Makes a step by the kernels of an earlier one, with the scalars of the nodes of this one.

    Raises:
        GuardFailed: If the trace does not hold for this step. Nothing has been written then.
    """
    nodes = flatten_nodes(root)
    for reduction in compiled.reductions:
        check_guards(reduction.guards, nodes)
        node = nodes[reduction.node]
        combine = node.rules[0].combine
        tables = [launch.measures(nodes, combine) for launch in reduction.launches]
        reduction.conclude(node, tables)
        if node.per_tensor_scalars != reduction.per_tensor_scalars:
            raise GuardFailed
    check_guards(compiled.guards, nodes)
    for launch in compiled.launches:
        launch(nodes)
