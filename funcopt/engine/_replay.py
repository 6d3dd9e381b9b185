"""What a recording comes to: kernels over all tensors, run again with the numbers of a step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import reduction
from .._core.reduction import MeasureSpec
from .._core.stage import Node
from ._blocks import Block, Tasks
from ._guards import Guard, GuardFailed, ScalarSource, check_guards
from ._kernels import Kernel
from ._step import flatten_nodes


class Source(NamedTuple):
    """Where the numbers of a cell are found: a row for all of it, or one for each tensor."""

    fetches: Sequence[ScalarSource]
    places: Sequence[int]  # of the tensors whose rows these are

    def rows(self, nodes: Sequence[Node]) -> list[list[Any]]:
        first = [fetch.read(nodes, self.places[0]) for fetch in self.fetches]
        if len(self.places) == 1:
            return [first]
        own = [(k, fetch.read) for k, fetch in enumerate(self.fetches) if fetch.per_tensor]
        rows = [first]
        for place in self.places[1:]:
            row = first.copy()
            for k, find in own:
                row[k] = find(nodes, place)
            rows.append(row)
        return rows


class Launch(NamedTuple):
    """One kernel over some cells of one block."""

    kernel: Kernel
    block: Block
    tasks: Tasks
    roles: tuple[int, ...]
    sources: Sequence[Source]

    def __call__(self, nodes: Sequence[Node]) -> Tensor | None:
        rows = [row for source in self.sources for row in source.rows(nodes)]
        return self.kernel(self.block, self.tasks, self.roles, rows)


class Cut(NamedTuple):
    """Where a pass ends, because a sum over all tensors is needed."""

    guards: Sequence[Guard]
    launches: Sequence[Launch]
    node: int  # of the stage that asks for the sum, among `flatten_nodes`
    order: Tensor | None  # of what the launches measure, where it is; `None`: as it comes
    measured: MeasureSpec
    own: frozenset[str]  # what each tensor then has its own of


class Recording(NamedTuple):
    """All passes of a step."""

    cuts: Sequence[Cut]
    guards: Sequence[Guard]
    launches: Sequence[Launch]


def repeat(recording: Recording, node: Node) -> None:
    """Makes the step once more, with the numbers of `node`.

    Raises:
        GuardFailed: If it is not the same any more. Nothing has been written then.
    """
    nodes = flatten_nodes(node)
    for cut in recording.cuts:
        check_guards(cut.guards, nodes)
        node = nodes[cut.node]
        settle(cut, node, [table_of(launch, launch(nodes), node) for launch in cut.launches])
        if node.per_tensor_scalars != cut.own:
            raise GuardFailed
    check_guards(recording.guards, nodes)
    for launch in recording.launches:
        launch(nodes)


def table_of(launch: Launch, out: Tensor | None, node: Node) -> Tensor:
    """The measures of every leaf of a launch."""
    assert out is not None or not launch.tasks.count
    if out is None:
        out = torch.empty(0, 1, dtype=torch.float64, device=launch.block.device)
    return launch.tasks.gathered(out, node.rules[0].combine)


def settle(cut: Cut, node: Node, tables: Sequence[Tensor]) -> None:
    """Combines what has been measured, in the order of the tensors."""
    table = torch.cat([x.to(tables[0].device) for x in tables])
    reduction.conclude_measured(
        node, table if cut.order is None else table[cut.order], cut.measured
    )
