"""The end of a reduction as a kernel: parts are added up, and `conclude` runs, in one launch.

A program of it concludes once: for each parameter group, or for each tensor where these are
measured one by one. On a device nothing is waited for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core.record import unchecked
from .._core.reduction import MeasureSpec
from .._core.stage import DifferingScalar, Node, Scalars, common_scalars
from . import triton
from ._guards import Guard, ScalarSource, Unsupported
from ._host_scalars import HostKernel, HostPrograms
from ._kernels import DrivenKernel
from ._replay import Launch
from ._scalar_code import Found, Result, ScalarCode, has, scalar_code
from ._scalar_graph import ScalarGraph, traced

Case = tuple[int, ScalarCode]
"""A parameter group, and how it concludes from measures in some dtypes."""

Concluded = tuple[Mapping[str, Any], Any]
"""Scalars and memory."""


class Conclusion:
    """`conclude` of a stage as a kernel."""

    def __init__(
        self,
        cases: Sequence[Case],
        ranges: Sequence[tuple[int, int, int]],
        node: int,
        measures: MeasureSpec,
    ) -> None:
        if len({code.kernel.key for _, code in cases}) > 1:
            raise Unsupported("parameter groups that conclude each in its own way")
        self.guards = [guard for _, code in cases for guard in code.guards]
        self._cases, self._node, self._measures = cases, node, measures
        self._ranges, self._run = ranges, cases[0][1].kernel.over(ranges)
        self._case_of = [case for _, _, case in ranges]  # of each program

    def run(self, nodes: Sequence[Node], launches: Sequence[Launch]) -> None:
        """Makes the pass and concludes it; the node gets what comes out."""
        parts = [out for one in launches if (out := one(nodes)) is not None]
        if len(parts) > 1:
            triton.make_pending()
        part = parts[0] if len(parts) == 1 else torch.cat(parts)
        self._conclude(nodes, self._run(part, self._rows(nodes)))

    def ready(self, part: Tensor) -> Callable[[Sequence[Node]], None]:
        """What concludes from the parts that lie here.

        Scalars are written where those of the step before were: whoever keeps some has to copy
        them. Memory is not.

        Raises:
            Unsupported: If that is a launch on a device.
        """
        kernel = self._cases[0][1].kernel.over(self._ranges)  # with memory of its own
        if not isinstance(kernel, HostPrograms):
            raise Unsupported("a conclusion on a device")
        kernel.read(part)
        more, memory = self._cases[0][1].returned
        if has(Result, memory):
            return lambda nodes: self._conclude(nodes, kernel.copied(self._rows(nodes)))
        if has(ScalarSource, (more, memory)):
            return lambda nodes: self._conclude(nodes, kernel.written(self._rows(nodes)))
        concluded = self._concluded((), kernel.found)

        def conclude(nodes: Sequence[Node]) -> None:
            kernel.written(self._rows(nodes))
            self._give(nodes[self._node], concluded)

        return conclude

    def _conclude(self, nodes: Sequence[Node], found: Found) -> None:
        self._give(nodes[self._node], self._concluded(nodes, found))

    def _rows(self, nodes: Sequence[Node]) -> list[list[Any]]:
        """The scalars that are read for each case."""
        return [code.read(nodes) for _, code in self._cases]

    def _concluded(self, nodes: Sequence[Node], found: Found) -> list[Concluded]:
        """What each program returns."""
        return [
            self._cases[case][1].filled(nodes, found, k) for k, case in enumerate(self._case_of)
        ]

    def _give(self, node: Node, concluded: Sequence[Concluded]) -> None:
        """Gives the scalars of all programs, and the memory, to the node."""
        if node.rules[0].measure_per == "tensor":
            rows = [node.rows[self._cases[case][0]] for case in self._case_of]
            each = zip(rows, concluded, strict=True)
            node.rows = [{**own, **more} for own, (more, _) in each]
            node.row_of = range(len(node.rows))
            node.row_buckets, node.row_keys = self._measures.bucket_of, self._measures.keys
            more, _ = self._cases[0][1].returned
            node.per_tensor_scalars |= {name for name, x in more.items() if has(Result, x)}
            return
        if len(concluded) < len(node.rows):  # one memory for all groups
            concluded = [concluded[0]] * len(node.rows)
        each = zip(node.rows, concluded, strict=True)
        node.rows = [{**own, **more} for own, (more, _) in each]
        node.memory = [memory for _, memory in concluded]


def conclusion_of(
    launches: Sequence[Launch], nodes: Sequence[Node], k: int, measures: MeasureSpec, order: Any
) -> Conclusion | None:
    """How a stage concludes by a kernel; `None` if it has to be by operations of torch.

    `order` has, for each row of the measures, its place among the leaves of all launches.
    """
    node, device = nodes[k], launches[0].block.device if launches else None
    kinds = {_kind(one.kernel) for one in launches}
    if len(kinds) != 1 or None in kinds:
        return None
    if any(one.block.device != device for one in launches):
        return None
    if node.members.ranks.share_tensors or node.members.ranks.crossed(measures.spans):
        return None
    try:
        return _conclusion(launches, nodes, k, measures, order, kinds.pop())
    except Unsupported:
        return None


def _kind(kernel: Any) -> Any:
    """What concludes from the measures of such kernels."""
    if isinstance(kernel, triton.TritonKernel):
        return triton.DeviceKernel
    return HostKernel if isinstance(kernel, DrivenKernel) else None


def _conclusion(
    launches: Sequence[Launch],
    nodes: Sequence[Node],
    k: int,
    measures: MeasureSpec,
    order: Sequence[int],
    kernel: Any,
) -> Conclusion:
    node, of = nodes[k], (kernel, launches[0].block.device)
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
            cases.append(_case(nodes, k, bucket, dtypes, measures, of))
        ranges = [(*spans[at], case_of[i]) for i, at in enumerate(order)]
        return Conclusion(cases, ranges, k, measures)
    dtypes = [measures.widest] * measures.no_rows.shape[1]
    shared = len(node.rules) > 1 and node.rules[0].memory_per == "tree"
    buckets = [0] if shared else range(len(node.rules))
    cases = [_case(nodes, k, bucket, dtypes, measures, of, shared) for bucket in buckets]
    return Conclusion(cases, [(0, begin, case) for case in range(len(cases))], k, measures)


def _case(
    nodes: Sequence[Node],
    k: int,
    bucket: int,
    dtypes: Sequence[torch.dtype],
    measures: MeasureSpec,
    of: tuple[Any, torch.device],
    shared: bool = False,
) -> Case:
    kernel, device = of
    node, graph = nodes[k], ScalarGraph(device)
    rule, extra = node.rules[bucket], node.members.extra
    if rule.required_extra.difference(extra):
        raise Unsupported("an extra argument that was not given")
    known = node.rows[bucket]
    if shared:
        rule, known = common_scalars(node.rules, node.rows)
        differing = ScalarSource(lambda nodes, i: _differing(nodes[k]))
        graph.guards.append(Guard(differing, differing.read(nodes, 0)))
    total = measures.spec.unflatten([graph.tensor(None, dtype) for dtype in dtypes])
    row = ScalarSource(lambda nodes, i: nodes[k].rows[bucket], of=frozenset([k]))
    values = {
        name: x if isinstance(x, DifferingScalar) else graph.value(x, row.item(name))
        for name, x in known.items()
    }
    own = ScalarSource(lambda nodes, i: nodes[k].memory[bucket])
    memory = graph.value(node.memory[bucket], own)
    extras = ScalarSource(lambda nodes, i: nodes[k].members.extra)
    given = {
        name: graph.value(x, extras.item(name)) for name, x in extra.items() if name in rule.extra
    }
    rule = unchecked(rule, {name: values[name] for name in rule.hyperparameters})
    scalars = Scalars(type(rule).__name__, values)
    returned = traced(graph, lambda: rule.conclude(scalars, memory, total, **given))
    return bucket, scalar_code(graph, tuple(returned), kernel, dtypes, rule.combine)


def _differing(node: Node) -> frozenset[str]:
    """The scalars that differ between the groups: no conclusion may need one."""
    _, row = common_scalars(node.rules, node.rows)
    return frozenset(name for name, x in row.items() if isinstance(x, DifferingScalar))
