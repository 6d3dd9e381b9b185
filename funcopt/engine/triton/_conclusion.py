"""The end of a reduction on the device: parts are added up, and `conclude` runs, in one launch.

Nothing is waited for. A program of the grid concludes once: for each parameter group, or for each
tensor where these are measured one by one.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..._core.record import unchecked
from ..._core.reduction import MeasureSpec
from ..._core.stage import DifferingScalar, Node, Scalars, common_scalars
from .._guards import Guard, ScalarSource, Unsupported
from .._replay import Launch
from .._scalar_graph import ScalarGraph, traced
from ._kernel import TritonKernel
from ._launch import Sent, make_pending
from ._scalars import ScalarCode, has_result, scalar_code

Case = tuple[int, ScalarCode]
"""A parameter group, and how it concludes from measures in some dtypes."""


class Conclusion:
    """`conclude` of a stage as a kernel."""

    def __init__(
        self,
        cases: Sequence[Case],
        ranges: Sequence[tuple[int, int, int]],
        node: int,
        measures: MeasureSpec,
    ) -> None:
        if len({code.kind for _, code in cases}) > 1:
            raise Unsupported("parameter groups that conclude each in its own way")
        self.guards = [guard for _, code in cases for guard in code.guards]
        self._cases, self._node, self._measures = cases, node, measures
        self._ranges = Sent(itertools.chain.from_iterable(ranges))
        self._case_of = [case for _, _, case in ranges]  # of each program

    def run(self, nodes: Sequence[Node], launches: Sequence[Launch]) -> None:
        """Makes the pass and concludes it; the node gets what comes out."""
        parts = [out for one in launches if (out := one(nodes)) is not None]
        if len(parts) > 1:
            make_pending()
        part = parts[0] if len(parts) == 1 else torch.cat(parts)
        rows = [code.read(nodes) for _, code in self._cases]
        given = [part, self._ranges.on(part.device)]
        found = self._cases[0][1].launch(part.device, rows, given, len(self._case_of))
        concluded = [
            self._cases[case][1].filled(nodes, found, k) for k, case in enumerate(self._case_of)
        ]
        self._give(nodes[self._node], concluded)

    def _give(self, node: Node, concluded: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
        """Gives the scalars of all programs, and the memory, to a node."""
        if node.rules[0].measure_per == "tensor":
            rows = [node.rows[self._cases[case][0]] for case in self._case_of]
            each = zip(rows, concluded, strict=True)
            node.rows = [{**own, **more} for own, (more, _) in each]
            node.row_of = range(len(node.rows))
            node.row_buckets, node.row_keys = self._measures.bucket_of, self._measures.keys
            more, _ = self._cases[0][1].returned
            node.per_tensor_scalars |= {name for name, x in more.items() if has_result(x)}
            return
        if len(concluded) < len(node.rows):  # one memory for all groups
            concluded = [concluded[0]] * len(node.rows)
        each = zip(node.rows, concluded, strict=True)
        node.rows = [{**own, **more} for own, (more, _) in each]
        node.memory = [memory for _, memory in concluded]


def conclusion_of(
    launches: Sequence[Launch], nodes: Sequence[Node], k: int, measures: MeasureSpec, order: Any
) -> Conclusion | None:
    """How a stage concludes on the device; `None` if it has to be by operations of torch.

    `order` has, for each row of the measures, its place among the leaves of all launches.
    """
    node, device = nodes[k], launches[0].block.device if launches else None
    if not all(isinstance(one.kernel, TritonKernel) for one in launches) or not launches:
        return None
    if any(one.block.device != device for one in launches):
        return None
    if node.members.ranks.share_tensors or node.members.ranks.crossed(measures.spans):
        return None
    try:
        return _conclusion(launches, nodes, k, measures, order, device)
    except Unsupported:
        return None


def _conclusion(
    launches: Sequence[Launch],
    nodes: Sequence[Node],
    k: int,
    measures: MeasureSpec,
    order: Sequence[int],
    device: Any,
) -> Conclusion:
    node = nodes[k]
    spans, begin = [], 0
    for one in launches:
        spans += [(begin + a, begin + b) for a, b in one.tasks.spans()]
        begin += one.tasks.count
    if node.rules[0].measure_per == "tensor":
        cases: list[Case] = []
        case_of: dict[int, int] = {}
        for (bucket, *kinds), rows in measures.rows_by_dtype.items():
            case_of.update(dict.fromkeys(rows, len(cases)))
            dtypes = [dtype for _, dtype in kinds]
            cases.append(_case(nodes, k, bucket, dtypes, measures, device))
        ranges = [(*spans[at], case_of[i]) for i, at in enumerate(order)]
        return Conclusion(cases, ranges, k, measures)
    dtypes = [measures.widest] * measures.no_rows.shape[1]
    shared = len(node.rules) > 1 and node.rules[0].memory_per == "tree"
    buckets = [0] if shared else range(len(node.rules))
    cases = [_case(nodes, k, bucket, dtypes, measures, device, shared) for bucket in buckets]
    return Conclusion(cases, [(0, begin, case) for case in range(len(cases))], k, measures)


def _case(
    nodes: Sequence[Node],
    k: int,
    bucket: int,
    dtypes: Sequence[torch.dtype],
    measures: MeasureSpec,
    device: torch.device,
    shared: bool = False,
) -> Case:
    node, graph = nodes[k], ScalarGraph(device)
    rule, extra = node.rules[bucket], node.members.extra
    if rule.required_extra.difference(extra):
        raise Unsupported("an extra argument that was not given")
    if shared:
        agree = ScalarSource(lambda nodes, i: _agree(nodes[k]))
        if not agree.read(nodes, 0):
            raise Unsupported("scalars that differ between groups")
        graph.guards.append(Guard(agree, True))
    total = measures.spec.unflatten([graph.tensor(None, dtype) for dtype in dtypes])
    row = ScalarSource(lambda nodes, i: nodes[k].rows[bucket])
    values = {name: graph.value(x, row.item(name)) for name, x in node.rows[bucket].items()}
    own = ScalarSource(lambda nodes, i: nodes[k].memory[bucket])
    memory = graph.value(node.memory[bucket], own)
    extras = ScalarSource(lambda nodes, i: nodes[k].members.extra)
    given = {
        name: graph.value(x, extras.item(name)) for name, x in extra.items() if name in rule.extra
    }
    rule = unchecked(rule, {name: values[name] for name in rule.hyperparameters})
    scalars = Scalars(type(rule).__name__, values)
    returned = traced(graph, lambda: rule.conclude(scalars, memory, total, **given))
    return bucket, scalar_code(graph, tuple(returned), dtypes, rule.combine)


def _agree(node: Node) -> bool:
    """Whether no scalar differs between the groups."""
    _, row = common_scalars(node.rules, node.rows)
    return not any(isinstance(x, DifferingScalar) for x in row.values())
