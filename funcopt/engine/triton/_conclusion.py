"""The end of a reduction on the device: parts are added up, and `conclude` runs, in one launch.

Nothing is waited for. A program of the grid concludes once: for each parameter group, or for each
tensor where these are measured one by one.
"""

import array
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ..._core.record import unchecked
from ..._core.reduction import MeasureSpec
from ..._core.stage import DifferingScalar, Node, Scalars, common_scalars
from .._calls import ScalarInput
from .._guards import Guard, ScalarSource, Unsupported
from .._replay import Launch
from .._scalar_graph import ScalarGraph, traced
from .._symbols import ScalarSymbol, Symbol
from ._kernel import TritonKernel
from ._launch import Sent, function_of, launch, make_pending
from ._source import conclusion_source


class Result(NamedTuple):
    """Where a value lies that a kernel makes: in which of its tensors, and in which column."""

    tensor: int
    column: int


class Case(NamedTuple):
    """How one parameter group concludes, from measures in some dtypes."""

    bucket: int
    source: str
    scalars: Sequence[ScalarSource]  # that the kernel reads
    dtypes: tuple[torch.dtype, ...]  # of the tensors of its results, each with so many columns
    columns: tuple[int, ...]
    returned: Any  # scalars and memory, with a `Result` or a source for each value
    guards: Sequence[Guard]

    @property
    def kind(self) -> Any:
        """What has to be the same where one launch concludes several."""
        return self.source, self.dtypes, self.columns


class Conclusion:
    """`conclude` of a stage as a kernel."""

    def __init__(
        self,
        cases: Sequence[Case],
        ranges: Sequence[tuple[int, int, int]],
        node: int,
        measures: MeasureSpec,
    ) -> None:
        if len({case.kind for case in cases}) > 1:
            raise Unsupported("parameter groups that conclude each in its own way")
        self.guards = [guard for case in cases for guard in case.guards]
        self._function, self._cases = function_of(cases[0].source), cases
        self._node, self._measures = node, measures
        self._ranges = Sent(itertools.chain.from_iterable(ranges))
        self._case_of = [case for _, _, case in ranges]  # of each program

    def run(self, nodes: Sequence[Node], launches: Sequence[Launch]) -> None:
        """Makes the pass and concludes it; the node gets what comes out."""
        parts = [out for one in launches if (out := one(nodes)) is not None]
        if len(parts) > 1:
            make_pending()
        part = parts[0] if len(parts) == 1 else torch.cat(parts)
        device, programs = part.device, len(self._case_of)
        rows = [[x.read(nodes, 0) for x in case.scalars] for case in self._cases]
        made = [
            torch.empty(programs, columns, dtype=dtype, device=device)
            for dtype, columns in zip(self._cases[0].dtypes, self._cases[0].columns, strict=True)
        ]
        given = [part, self._ranges.on(device)]
        launch(self._function, programs, given, array.array("q"), rows, made, device)
        found = [[column.unbind() for column in x.unbind(1)] for x in made]
        self._give(
            nodes[self._node],
            [
                _filled(self._cases[case].returned, nodes, found, k)
                for k, case in enumerate(self._case_of)
            ],
        )

    def _give(self, node: Node, concluded: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
        """Gives the scalars of all programs, and the memory, to a node."""
        if node.rules[0].measure_per == "tensor":
            rows = [node.rows[self._cases[case].bucket] for case in self._case_of]
            each = zip(rows, concluded, strict=True)
            node.rows = [{**own, **more} for own, (more, _) in each]
            node.row_of = range(len(node.rows))
            node.row_buckets, node.row_keys = self._measures.bucket_of, self._measures.keys
            node.per_tensor_scalars |= {
                name for name, x in self._cases[0].returned[0].items() if _has_result(x)
            }
            return
        if len(concluded) < len(node.rows):  # one memory for all groups
            concluded = [concluded[0]] * len(node.rows)
        each = zip(node.rows, concluded, strict=True)
        node.rows = [{**own, **more} for own, (more, _) in each]
        node.memory = [memory for _, memory in concluded]


def _has_result(x: Any) -> bool:
    return isinstance(x, Result) or (isinstance(x, (tuple, list)) and any(map(_has_result, x)))


def _filled(x: Any, nodes: Sequence[Node], found: Any, program: int) -> Any:
    if isinstance(x, Result):
        return found[x.tensor][x.column][program]
    if isinstance(x, ScalarSource):
        return x.read(nodes, 0)
    return _mapped(lambda y: _filled(y, nodes, found, program), x)


def _mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """`x` with `function` of all that is in it; it is called of no leaf of other types."""
    if isinstance(x, dict):
        return {key: function(value) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        made = map(function, x)
        return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)
    return x


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

    returned = placed(tuple(returned))
    listing, inputs = graph.listing(outputs)
    scalar_inputs = [at for at in inputs if graph.sources[at] is not None]
    source = conclusion_source(
        listing,
        [at if graph.sources[at] is None else None for at in inputs],
        dtypes,
        [x.meta.dtype for x in outputs],
        rule.combine,
    )
    return Case(
        bucket,
        source,
        [graph.sources[at] for at in scalar_inputs],
        tuple(columns),
        tuple(columns.values()),
        returned,
        graph.guards,
    )


def _agree(node: Node) -> bool:
    """Whether no scalar differs between the groups."""
    _, row = common_scalars(node.rules, node.rows)
    return not any(isinstance(x, DifferingScalar) for x in row.values())
