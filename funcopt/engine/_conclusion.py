"""The end of a reduction as a kernel: parts are added up, and `conclude` runs, in one launch.

A program of it concludes once: for each parameter group, or for each tensor where these are
measured one by one. On a device nothing is waited for.
"""

from collections.abc import Mapping, Sequence
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
from ._replay import Launch, ReadyConclusion
from ._scalar_code import Found, Result, ScalarCode, has, scalar_code
from ._scalar_graph import ScalarGraph, traced

Case = tuple[int, ScalarCode]
"""A parameter group, and how it concludes from measures in some dtypes."""

Concluded = tuple[Mapping[str, Any], Any]
"""Scalars and memory."""


class _Group:
    """Programs that run the same kernel, each for one of these cases."""

    def __init__(self) -> None:
        self.codes: list[ScalarCode] = []
        self.ranges: list[tuple[int, int, int]] = []
        self.places: list[int] = []  # of its programs, among all

    def over(self) -> Any:
        """The kernel of them."""
        return self.codes[0].kernel.over(self.ranges)

    def rows(self, nodes: Sequence[Node]) -> list[list[Any]]:
        """The scalars that are read for each case."""
        return [code.read(nodes) for code in self.codes]

    def put(self, nodes: Sequence[Node], found: Found, to: list[Any]) -> None:
        """Puts what each program returns in its place."""
        for k, (at, (_, _, case)) in enumerate(zip(self.places, self.ranges, strict=True)):
            to[at] = self.codes[case].filled(nodes, found, k)


class Conclusion:
    """`conclude` of a stage by kernels: mostly one."""

    def __init__(
        self,
        cases: Sequence[Case],
        ranges: Sequence[tuple[int, int, int]],
        node: int,
        measures: MeasureSpec,
        program_of: Sequence[int] = (),
        guards: Sequence[Guard] = (),
    ) -> None:
        self.guards = [*guards, *(guard for _, code in cases for guard in code.guards)]
        self._cases, self._node, self._measures = cases, node, measures
        self._program_of = program_of  # for each bucket, where tensors are measured together
        every = (item for _, code in cases for item in code.returned[0].items())
        self._varying = frozenset(name for name, x in every if has(Result, x))
        self._case_of = [case for _, _, case in ranges]  # of each program
        groups: dict[Any, _Group] = {}
        place_of: dict[int, tuple[_Group, int]] = {}
        for k, (first, last, case) in enumerate(ranges):
            if case not in place_of:
                code = cases[case][1]
                group = groups.setdefault(code.kernel.key, _Group())
                place_of[case] = group, len(group.codes)
                group.codes.append(code)
            group, own = place_of[case]
            group.ranges.append((first, last, own))
            group.places.append(k)
        self._groups = [(group, group.over()) for group in groups.values()]

    def run(self, nodes: Sequence[Node], launches: Sequence[Launch]) -> None:
        """Makes the pass and concludes it; the node gets what comes out."""
        parts = [out for one in launches if (out := one(nodes)) is not None]
        if len(parts) > 1:
            triton.make_pending()
        part = parts[0] if len(parts) == 1 else torch.cat(parts)
        concluded: list[Any] = [None] * len(self._case_of)
        for group, kernel in self._groups:
            group.put(nodes, kernel(part, group.rows(nodes)), concluded)
        self._give(nodes[self._node], concluded)

    def ready(self, part: Tensor) -> ReadyConclusion:
        """What concludes from the parts that lie here.

        Scalars are written where those of the step before were: whoever keeps some has to copy
        them. Memory is not.

        Raises:
            Unsupported: If that is a launch on a device.
        """
        kernels = [group.over() for group, _ in self._groups]  # with memory of their own
        if not all(isinstance(x, HostPrograms) for x in kernels):
            raise Unsupported("a conclusion on a device")
        remembers = any(has(Result, code.returned[1]) for _, code in self._cases)
        concluded: list[Any] = [None] * len(self._case_of)
        groups = []
        for (group, _), kernel in zip(self._groups, kernels, strict=True):
            kernel.read(part)
            copies = remembers or not kernel.has_views
            changes = copies or any(has(ScalarSource, code.returned) for code in group.codes)
            if not changes:
                group.put((), kernel.found, concluded)
            groups.append((group, kernel.copied if copies else kernel.written, changes))

        def conclude(nodes: Sequence[Node]) -> None:
            for group, run, changes in groups:
                found = run(group.rows(nodes))
                if changes:
                    group.put(nodes, found, concluded)
            self._give(nodes[self._node], concluded)

        def conclude_once(nodes: Sequence[Node]) -> None:
            """The same for one group of parameters, whose results are all written in place."""
            run(group.rows(nodes))
            node = nodes[self._node]
            node.rows, node.memory = [{**node.rows[0], **more}], [memory]

        (group, run, changes), *others = groups
        if others or changes or self._program_of != (0,):
            return ReadyConclusion(conclude, kernels[0].measure_first)
        more, memory = concluded[0]
        return ReadyConclusion(conclude_once, kernels[0].measure_first)

    def _give(self, node: Node, concluded: Sequence[Concluded]) -> None:
        """Gives the scalars of all programs, and the memory, to the node."""
        if not self._program_of:
            rows = [node.rows[self._cases[case][0]] for case in self._case_of]
            each = zip(rows, concluded, strict=True)
            node.rows = [{**own, **more} for own, (more, _) in each]
            node.row_of = range(len(node.rows))
            node.row_buckets, node.row_keys = self._measures.bucket_of, self._measures.keys
            node.per_tensor_scalars |= self._varying
            return
        mine = [concluded[program] for program in self._program_of]
        node.rows = [{**own, **more} for own, (more, _) in zip(node.rows, mine, strict=True)]
        node.memory = [memory for _, memory in mine]


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
    count = len(node.rules)
    shared = count > 1 and node.rules[0].memory_per == "tree"
    program_of = (0,) * count if shared else node.conclusions()
    firsts = [program_of.index(program) for program in range(program_of[-1] + 1)]
    cases = [_case(nodes, k, bucket, dtypes, measures, of, shared) for bucket in firsts]
    ranges = [(0, begin, case) for case in range(len(cases))]
    found = ScalarSource(lambda nodes, i: nodes[k].conclusions(), of=frozenset([k]))
    guards = [] if count == 1 or shared else [Guard(found, program_of)]
    return Conclusion(cases, ranges, k, measures, program_of, guards)


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
        differing = _differing(node)  # others have to be common; numbers are, tensors mostly not
        covered = ScalarSource(lambda nodes, i: _differing(nodes[k]) <= differing)
        graph.guards.append(Guard(covered, True))
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
    more, new = traced(graph, lambda: rule.conclude(scalars, memory, total, **given))
    return bucket, scalar_code(graph, (dict(more), new), kernel, dtypes, rule.combine)


def _differing(node: Node) -> frozenset[str]:
    """The scalars that differ between the groups: no conclusion may need one."""
    _, row = common_scalars(node.rules, node.rows)
    return frozenset(name for name, x in row.items() if isinstance(x, DifferingScalar))
