"""A compiled step and its replay: kernels are launched with the scalars of another step."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from .._core.reduction import MeasureSpec, Reduce, conclude_measured, nothing_measured
from .._core.stage import Node
from .._numerics.scalars import full, moved
from . import triton
from ._blocks import Block, Tasks
from ._guards import Guard, GuardFailed, ScalarSource, Unsupported, guards_hold
from ._kernels import Kernel
from ._lowering import LoweredGraph
from ._ready_call import Words
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
        if not torch.is_grad_enabled():
            return self.kernel(self.block, self.tasks, self.roles, rows)
        with torch.no_grad():  # derivatives end here: whoever takes them does not come this far
            return self.kernel(self.block, self.tasks, self.roles, rows)

    def measures(self, nodes: Sequence[Node], combine: str) -> Tensor:
        """Launches the kernel; returns the measures of every leaf, a row for each."""
        out = self(nodes)
        assert out is not None
        triton.make_pending()
        return self.tasks.reduce_leaves(out, combine)


class ReadyConclusion(NamedTuple):
    """What concludes from parts that lie in one place."""

    conclude: Callable[[Sequence[Node]], None]
    measure_first: Callable[[Sequence[Words]], None]
    """Has it run these launches, which make the parts, each time before it concludes."""


class Concluding(Protocol):
    """`conclude` of a stage by a kernel."""

    def run(self, nodes: Sequence[Node], launches: Sequence[Launch]) -> None:
        """Makes the launches and concludes from what they measure."""
        ...

    def ready(self, part: Tensor) -> ReadyConclusion:
        """What concludes from the measures that lie here.

        Raises:
            Unsupported: If it is no function of the host.
        """
        ...


class ReductionPass(NamedTuple):
    """A pass over memory that ends with a reduction over all tensors."""

    guards: Sequence[Guard]
    launches: Sequence[Launch]
    node: int  # the index, among `flatten_nodes`, of the stage that reduces
    order: Sequence[int] | None  # that sorts the rows of all launches by tensor; `None` if they are
    permutation: Tensor | None  # the same, on the device of the total
    measures: MeasureSpec
    per_tensor_scalars: frozenset[str]  # of the node, afterwards
    conclusion: Concluding | None = None  # where `conclude` is a kernel, too

    def run(self, nodes: Sequence[Node]) -> None:
        """Measures, and calls the stage's `conclude`."""
        node = nodes[self.node]
        if self.conclusion is not None:
            self.conclusion.run(nodes, self.launches)
            return
        combine = node.rules[0].combine
        self.conclude(node, [launch.measures(nodes, combine) for launch in self.launches])

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether the scalars that the stage has concluded are of the kinds that were traced."""
        return nodes[self.node].per_tensor_scalars == self.per_tensor_scalars

    def conclude(self, node: Node, tables: Sequence[Tensor]) -> None:
        """Reduces the measures of all launches, and calls the stage's `conclude`."""
        if not triton.is_deferring():
            self._conclude(node, tables)
            return
        with triton.at_once():  # other ranks may be waiting, to which tensors are sent
            self._conclude(node, tables)

    def _conclude(self, node: Node, tables: Sequence[Tensor]) -> None:
        tables, device = tables or [self.measures.no_rows], self.measures.device
        if node.rules[0].measure_per == "tensor" and len({x.device for x in tables}) > 1:
            rows = [row for table in tables for row in table.unbind()]
            rows = rows if self.order is None else [rows[k] for k in self.order]
            conclude_measured(node, rows, self.measures)
            return
        table = torch.cat([moved(x, device) for x in tables])
        conclude_measured(
            node, table if self.permutation is None else table[self.permutation], self.measures
        )


class Pass(Protocol):
    """A part of a step at whose end a stage has to be called, before the next can begin."""

    @property
    def guards(self) -> Sequence[Guard]:
        """What has to hold before it."""
        ...

    @property
    def launches(self) -> Sequence[Launch]:
        """Its kernels."""
        ...

    def run(self, nodes: Sequence[Node]) -> None:
        """Makes it."""
        ...

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether what follows was traced for what came out of it."""
        ...


class ChosenSlot(NamedTuple):
    """One of two columns, by a flag that is computed of scalars."""

    flag: LoweredGraph
    scalars: Sequence[ScalarSource]
    yes: "int | ChosenSlot"
    no: "int | ChosenSlot"

    def column(self, block: Block, leaves: Sequence[int], nodes: Sequence[Node]) -> list[Tensor]:
        """The tensors of these leaves."""
        read = [source.read(nodes, block.indices[leaves[0]]) for source in self.scalars]
        row = torch.stack([_scalar(x, block.device).to(self.flag.compute_dtype) for x in read])
        (flag,) = self.flag([], row)
        both = (_column(source, block, leaves, nodes) for source in (self.yes, self.no))
        return [torch.where(flag, yes, no.view_as(yes)) for yes, no in zip(*both, strict=True)]


def _scalar(x: Any, device: torch.device) -> Tensor:
    return moved(x, device) if isinstance(x, Tensor) else full(x, device)


def _column(
    source: int | ChosenSlot, block: Block, leaves: Sequence[int], nodes: Sequence[Node]
) -> list[Tensor]:
    if isinstance(source, ChosenSlot):
        return source.column(block, leaves, nodes)
    return [block.columns[source][leaf] for leaf in leaves]


class Store(NamedTuple):
    """New slots that no kernel writes: of other shapes than the parameters, or whole numbers."""

    block: Block
    target: int  # a role
    source: int | ChosenSlot
    leaves: Sequence[int]

    def run(self, nodes: Sequence[Node]) -> None:
        """Writes them."""
        targets = _column(self.target, self.block, self.leaves, nodes)
        sources = _column(self.source, self.block, self.leaves, nodes)
        each = [(x, y.view_as(x)) for x, y in zip(targets, sources, strict=True) if x is not y]
        if each:
            own, new = map(list, zip(*each, strict=True))
            torch._foreach_copy_(own, new)  # pyright: ignore[reportPrivateImportUsage]


class CompiledStep(NamedTuple):
    """All passes of a step, and the last launches, which write the results."""

    decisions: Sequence[bool]  # of all stages, in order
    passes: Sequence[Pass]
    guards: Sequence[Guard]
    launches: Sequence[Launch]
    stores: Sequence[Store]

    def all_launches(self) -> list[Launch]:
        """Those of all passes, and the last ones."""
        return [*(launch for one in self.passes for launch in one.launches), *self.launches]

    def finish(self, nodes: Sequence[Node]) -> None:
        """Writes the results."""
        for launch in self.launches:
            launch(nodes)
        if self.stores:
            triton.make_pending()
        with torch.no_grad():
            for store in self.stores:
                store.run(nodes)


class Way(Protocol):
    """A way through the decisions of a step: a `CompiledStep`, or one whose launches are ready."""

    @property
    def decisions(self) -> Sequence[bool]:
        """Of all stages, in order."""
        ...

    @property
    def passes(self) -> Sequence[Any]:
        """What comes before the last launches."""
        ...

    @property
    def guards(self) -> Sequence[Guard]:
        """What has to hold before these."""
        ...

    def finish(self, nodes: Sequence[Node]) -> None:
        """Writes the results."""
        ...


W = TypeVar("W", bound=Way)


class Replay(Generic[W]):
    """A step by the kernels of an earlier one, with the scalars of the nodes of this one.

    It is one of those whose guards hold, and which has decided as this one does. None is chosen
    before that: as long as they have all in common, it does not matter which.
    """

    def __init__(self, compiled: Sequence[W], root: Node) -> None:
        self._nodes = flatten_nodes(root)
        self._left, self._decided, self._made = list(compiled), 0, 0

    def run(self) -> None:
        """Makes a step that decides nothing.

        Raises:
            GuardFailed: If no trace holds for this step. No result has been written then.
        """
        while self._made < len(self._left[0].passes):
            self._make_next()
        self.finish()

    def follow(self, run: Callable[[Reduce], Any]) -> None:
        """Makes a step along the decisions of `run`, which computes nothing.

        Raises:
            GuardFailed: As above.
        """
        for node in self._nodes:
            node.decide_hook, node.whole_hook, node.is_known = self._decide, self._whole, True
        try:
            run(self._reduce)
        finally:
            for node in self._nodes:
                node.decide_hook, node.whole_hook, node.is_known = None, None, False
        self._keep(lambda one: len(one.decisions) == self._decided)
        self.finish()

    def finish(self) -> None:
        """Launches the last pass."""
        self._keep(lambda one: guards_hold(one.guards, self._nodes))
        self._left[0].finish(self._nodes)

    @property
    def chosen(self) -> W:
        """That by which it was made."""
        return self._left[0]

    def _decide(self, flag: bool) -> None:
        at, self._decided = self._decided, self._decided + 1
        self._keep(lambda one: at < len(one.decisions) and one.decisions[at] is flag)

    def _reduce(self, node: Node, parts: list[Any]) -> None:
        if parts or nothing_measured(node) is not None:
            self._make_next()

    def _whole(self, node: Node, gs: list[Any], slots: list[Any], ps: list[Any]) -> None:
        if gs:
            self._make_next()

    def _make_next(self) -> None:
        at, self._made = self._made, self._made + 1
        self._keep(lambda one: guards_hold(one.passes[at].guards, self._nodes))
        self._left[0].passes[at].run(self._nodes)
        self._keep(lambda one: one.passes[at].fits(self._nodes))

    def _keep(self, holds: Callable[[W], bool]) -> None:
        self._left = [one for one in self._left if holds(one)]
        if not self._left:
            raise GuardFailed


class StandIn:
    """Stands for a tensor in a step of which only decisions and memory are to be made."""

    stands_in = True

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return STAND_IN

    def _same(self, *others: Any) -> "StandIn":
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _same
    __rtruediv__ = __pow__ = __neg__ = __abs__ = __and__ = __or__ = __invert__ = _same
    __lt__ = __le__ = __gt__ = __ge__ = detach = _same

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a question of Python's, such as of `hasattr`
            raise AttributeError(name)
        raise Unsupported(f"`{name}` of a tensor, in a stage that decides")

    def __bool__(self) -> bool:
        raise Unsupported("control flow that depends on a tensor, in a stage that decides")


STAND_IN = StandIn()
