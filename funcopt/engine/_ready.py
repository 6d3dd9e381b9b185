"""Ready kernels: a compiled step over the same tensors as before, with new gradients and scalars.

For small jobs, where to find out what there is to be done takes longer than to do it. What cannot
be another than before is not asked again: addresses of parameters and slots, the tasks, scalars of
stages that prepare none. Whoever calls it has compared what that relies on.
"""

import array
import functools
import logging
from collections.abc import Callable, Sequence, Set
from typing import Any

import torch
from torch import Tensor

from .._core.ranks import NOBODY
from .._core.reduction import Reduce
from .._core.stage import NO_MEMBERS, Bucket, Members, Node
from .._core.tensor_rule import PerTensor
from ..combinators import FieldPath
from . import _threads
from ._blocks import Block
from ._given_values import GivenValues, changed_values
from ._guards import Guard, GuardFailed, ScalarSource, Unsupported
from ._kernels import DrivenKernel
from ._memory_numbers import MemoryNumbers
from ._ready_call import Words, repeats_steps
from ._recorded import RecordedStep, record
from ._recording import KnownWay, Part
from ._replay import CellScalars, CompiledStep, Launch, ReadyConclusion, ReductionPass, Replay
from ._step import flatten_nodes

log = logging.getLogger("funcopt")

NO_EXTRA = NO_MEMBERS._replace(extra={}, ranks=NOBODY)

PlaceOf = Callable[[int, int], int | None]

Follow = Callable[[PerTensor, Node, Reduce], Any]

AGAIN = 16
"""After so many steps by the same transformations they are recorded again, which takes as long as
some steps."""

THREADS = 13
"""Where their number stands among the words of a launch."""


class ReadyKernels:
    """Compiled steps that can be made again and again: one, or one for each way of decisions.

    Args:
        compiled: What is launched.
        written: The parameters, whose versions are increased.
        place_of: Which of the tensors that are others in every step stands in a column, by its role
            and the index of the parameter; `None` for those that are the same.
        follow: Makes the decisions of a step, of which nothing is computed.
        decides: Whether it makes some.
        seen: What a stage sees of the tensors, and which of the buckets.
        root: The node of a step that was made.
        buckets: Those of that step.
        memory: All that is in the memory of a bucket, if these are numbers and buckets have the
            same: where steps are recorded, they are read and written here.

    Raises:
        Unsupported: If it is more than kernels, or the scalars of a stage are more than numbers.
    """

    def __init__(
        self,
        compiled: Sequence[CompiledStep],
        written: Sequence[Tensor],
        place_of: PlaceOf,
        follow: Follow,
        decides: bool,
        seen: tuple[Members, Sequence[int]],
        root: Node,
        buckets: Sequence[Bucket],
        memory: MemoryNumbers | None = None,
    ) -> None:
        if not repeats_steps():
            raise Unsupported("there is no machine code that repeats steps")
        self._written, self._follow, self._decides = list(written), follow, decides
        self._members, self.used = seen
        self._steps = [_ReadyStep(one, place_of) for one in compiled]
        self._root, self._nodes = root, flatten_nodes(root)
        self._memory, self._unsettled = memory, AGAIN
        self._program: RecordedStep | None = None
        self._varying: set[FieldPath] = set()  # hyperparameters that have changed
        self._varies = True  # whether a program can be given them
        self._values = GivenValues((), [b.tx for b in buckets])
        self.settle(buckets)

    def settle(self, buckets: Sequence[Bucket], as_before: bool = True) -> None:
        """Lets scalars be that are the same in all steps by the transformations of the last one.

        Args:
            buckets: Those of the next step.
            as_before: Whether the transformations are the same; else values that have been
                exchanged are others.
        """
        self._unsettled += 1
        if self._unsettled <= AGAIN or not (as_before or self._varies):
            return
        try:
            self._program = self._recorded(buckets)
        except Unsupported as reason:
            log.debug("a step is not recorded: %s", reason)
            if self._varying and self._varies:
                self._varies = False
                self.settle(buckets, as_before)
                return
            self._memory = None
            self._read_all()
            return
        for node in self._nodes:
            node.members = NO_EXTRA
        self._read(self._program.changing)

    @property
    def waits(self) -> bool:
        """Whether it is to be settled in one of the next steps."""
        return self._program is None and self._memory is not None

    def exchange(self, before: Sequence[Bucket], now: Sequence[Bucket]) -> bool:
        """Goes on with the transformations of other buckets.

        Returns:
            Whether these differ in values of hyperparameters alone; else nothing is done.
        """
        changed: set[FieldPath] = set()
        for old, new in zip(before, now, strict=True):
            found = changed_values(old.tx, new.tx)
            if found is None:
                return False
            changed |= found
        self._varying |= changed
        if self._program is None:
            self._unsettled *= self._varies
        elif not (changed <= set(self._values.fields) and self._values.read(self._txs(now))):
            self._program, self._unsettled = None, 0
            self._read_all()
        return True

    def _txs(self, buckets: Sequence[Bucket]) -> list[PerTensor]:
        return [buckets[k].tx for k in self.used]

    @property
    def given(self) -> GivenValues | None:
        """Hyperparameters that may be written before a step; `None` if all are as they were."""
        return self._values if self._program is not None else None

    def _recorded(self, buckets: Sequence[Bucket]) -> RecordedStep:
        """The step as a program."""
        if self._memory is None:
            raise Unsupported("memory of which there is more than numbers")
        mine = [buckets[k] for k in self.used]
        ways = [one.way() for one in self._steps]
        run = functools.partial(self._follow, mine[0].tx)
        fields = sorted(self._varying) if self._varies else ()
        self._values = GivenValues(fields, self._txs(buckets))
        given = ways, run, mine, self._members, self._nodes, self._memory, self._values
        return record(*given)

    @property
    def keeps_memory(self) -> bool:
        """Whether the last step has written new memory into the numbers."""
        return self._program is not None

    def _read_all(self) -> None:
        """Reads all scalars in the next steps."""
        self._read(frozenset(range(len(self._nodes))))

    def _read(self, changing: Set[int]) -> None:
        """Reads the scalars of these nodes in the next steps; those of the others are there."""
        for one in self._steps:
            one.read(changing)

    def places(self) -> list[tuple[int, int]]:
        """Where addresses are to be written before a step, and of which tensors."""
        launches = (launch for one in self._steps for launch in one.all_launches())
        return [place for launch in launches for place in launch.addresses()]

    @property
    def is_settled(self) -> bool:
        """Whether scalars follow from the step count, and from numbers in memory."""
        return self._program is not None

    def __call__(self, buckets: Sequence[Bucket]) -> Node:
        """Makes a step, for tensors whose addresses are there.

        Raises:
            GuardFailed: If it is another than was compiled. Nothing has been written then.
        """
        if self._program is not None:
            return self.repeat(buckets[0].step)
        mine = [buckets[k] for k in self.used]
        root: Node = mine[0].tx.open(mine, self._members)
        self._root, self._nodes = root, flatten_nodes(root)
        if not self._decides:
            self._steps[0].run(self._nodes)
        else:
            follow, tx = self._follow, buckets[0].tx
            Replay(self._steps, root).follow(lambda reduce: follow(tx, root, reduce))
        if self._written:
            torch.autograd.graph.increment_version(self._written)
        root.release()
        return root

    def repeat(self, step: Any) -> Node:
        """Makes the step of this number, where all scalars are settled; raises as a call does."""
        assert self._program is not None
        try:
            holds = self._program.run(step)
        except ArithmeticError:  # of Python, where torch has infinity
            holds = False
        if not holds:
            raise GuardFailed
        if self._written:
            torch.autograd.graph.increment_version(self._written)
        return self._root


def _guards(guards: Sequence[Guard], changing: Set[int]) -> list[Guard]:
    """Those that have to be asked in every step."""
    return [guard for guard in guards if guard.source.depends_on(changing)]


class _ReadyStep:
    """A compiled step whose launches are ready."""

    def __init__(self, of: CompiledStep, place_of: PlaceOf) -> None:
        if of.stores:
            raise Unsupported("more than kernels")
        self._of, self.decisions = of, of.decisions
        self.guards: Sequence[Guard] = of.guards
        self.passes = [_ReadyPass(one, place_of) for one in of.passes]
        self.launches = [_ReadyLaunch(one, place_of) for one in of.launches]
        self._calls: list[Callable[[], Any]] = []  # of launches that are the same in each step

    def all_launches(self) -> list["_ReadyLaunch"]:
        """Those of all passes, and the last ones."""
        return [*(launch for one in self.passes for launch in one.launches), *self.launches]

    def way(self) -> KnownWay:
        """How it is part of a program."""
        last = Part(self._of.guards, self.finish, _reads(self.launches))
        return KnownWay(self.decisions, [one.part() for one in self.passes], last)

    def read(self, changing: Set[int]) -> None:
        """As for a launch."""
        self.guards = _guards(self._of.guards, changing)
        for one in self.passes:
            one.read(changing)
        for launch in self.launches:
            launch.read(changing)
        self._calls = []

    def run(self, nodes: Sequence[Node]) -> None:
        """Makes a step that decides nothing: what a `Replay` does, of one alone."""
        for one in self.passes:
            _check(one.guards, nodes)
            one.run(nodes)
            if not one.fits(nodes):
                raise GuardFailed
        _check(self.guards, nodes)
        self.finish(nodes)

    def finish(self, nodes: Sequence[Node]) -> None:
        """Writes the results."""
        if self._calls:
            for call in self._calls:
                call()
            return
        for launch in self.launches:
            launch(nodes)
        if all(launch.is_settled for launch in self.launches):
            self._calls = [launch.call for launch in self.launches]


def _check(guards: Sequence[Guard], nodes: Sequence[Node]) -> None:
    for guard in guards:
        if not guard.holds(nodes):
            raise GuardFailed


class _ReadyPass:
    """A pass that ends with a reduction."""

    def __init__(self, of: Any, place_of: PlaceOf) -> None:
        if not isinstance(of, ReductionPass):
            raise Unsupported("more than a sum over tensors")
        self._of, self.fits = of, of.fits
        self.guards: Sequence[Guard] = of.guards
        self._conclusion: ReadyConclusion | None = None
        self._measures_first = False  # whether the conclusion runs the launches
        parts: Sequence[Tensor | None] = [None] * len(of.launches)
        if of.conclusion is not None:
            count, width = sum(x.tasks.count for x in of.launches), of.measures.no_rows.shape[1]
            part = torch.empty(count, width, dtype=torch.float64, device="cpu")
            parts = torch.split(part, [x.tasks.count for x in of.launches])
            self._conclusion = of.conclusion.ready(part)
        each = zip(of.launches, parts, strict=True)
        self.launches = [_ReadyLaunch(one, place_of, part) for one, part in each]

    def part(self) -> Part:
        """How it is part of a program."""
        by_kernel = self._conclusion is not None
        return Part(self._of.guards, self.run, _reads(self.launches), self._of.node, by_kernel)

    def read(self, changing: Set[int]) -> None:
        """As for a launch."""
        self.guards = _guards(self._of.guards, changing)
        for launch in self.launches:
            launch.read(changing)
        self._measure_first(False)

    def _measure_first(self, does: bool) -> None:
        if self._conclusion is not None and does is not self._measures_first:
            self._conclusion.measure_first([one.words for one in self.launches if does])
            self._measures_first = does

    def run(self, nodes: Sequence[Node]) -> None:
        """Measures, and concludes."""
        if self._measures_first:
            assert self._conclusion is not None
            self._conclusion.conclude(nodes)
            return
        if self._conclusion is not None:
            for launch in self.launches:
                launch(nodes)
            self._conclusion.conclude(nodes)
            self._measure_first(all(one.is_settled for one in self.launches))
            return
        node = nodes[self._of.node]
        combine = node.rules[0].combine
        self._of.conclude(node, [one.measures(nodes, combine) for one in self.launches])


def _reads(launches: Sequence["_ReadyLaunch"]) -> Set[int] | None:
    """The nodes whose scalars they read; `None` if it is not known."""
    found: set[int] = set()
    for source in (source for launch in launches for source in launch.sources()):
        if source.of is None:
            return None
        found |= source.of
    return found


class _ReadyLaunch:
    """A kernel with all of its arguments, of which scalars and addresses of gradients change."""

    def __init__(self, of: Launch, place_of: PlaceOf, out: Tensor | None = None) -> None:
        kernel, block = of.kernel, of.block
        if not isinstance(kernel, DrivenKernel):
            raise Unsupported("a kernel that is not called by its address")
        self._kernel, self._tasks, self._cells = kernel, of.tasks, of.scalars
        self._row = kernel.packed([0.0] * sum(len(x.sources) * len(x.indices) for x in of.scalars))
        self._out = kernel.table_of(of.tasks) if out is None else out
        self._pointers = array.array("q")
        self.places: list[tuple[int, int]] = []
        for role in of.roles:
            self._add_column(block, role, place_of)
        self._is_short = of.tasks.entries <= _threads.SIZES[0]
        drive, program = kernel.address(of.tasks)
        self.words = Words(
            *(drive, *[*program, 0, 0, 0, 0, 0][:5]),
            *(of.tasks.count, of.tasks.table_address, self._pointers, block.leaves),
            *(self._row, of.tasks.rows_address),
            *(0 if self._out is None else self._out.data_ptr(), 1, self._is_short),
        )
        self.call = self.words.call("launch")

    def sources(self) -> list[ScalarSource]:
        """Where its scalars are read."""
        return [source for cell in self._cells for source in cell.sources]

    def read(self, changing: Set[int]) -> None:
        """Reads the scalars of these nodes when it is called, and those of the others at first."""
        self._changing, self._is_packed = _changing_scalars(self._cells, changing), False

    def _pack(self, nodes: Sequence[Node]) -> None:
        every = (x for cell in self._cells for row in cell.rows(nodes) for x in row)
        self._row[:], self._is_packed = self._kernel.packed(every), True

    def _add_column(self, block: Block, role: int, place_of: PlaceOf) -> None:
        for leaf, i in enumerate(block.indices):
            place = place_of(role, i)
            if place is None:
                self._pointers.append(block.columns[role][leaf].data_ptr())
            else:
                self.places.append((len(self._pointers), place))
                self._pointers.append(0)

    def addresses(self) -> list[tuple[int, int]]:
        """Where addresses are to be written in every step, and of which tensors."""
        begin, size = self._pointers.buffer_info()[0], self._pointers.itemsize
        return [(begin + at * size, i) for at, i in self.places]

    def __call__(self, nodes: Sequence[Node]) -> None:
        """Runs the kernel with the scalars of these nodes."""
        if self._changing is None or not self._is_packed:
            self._pack(nodes)
        else:
            for at, read, i in self._changing:
                self._row[at] = read(nodes, i)
        if not self._is_short:
            self.words[THREADS] = self._kernel.threads_for(self._tasks)
        self.call()

    @property
    def is_settled(self) -> bool:
        """Whether each call is the same: of scalars that are packed, on one thread."""
        return self._is_packed and self._is_short and self._changing == []

    def measures(self, nodes: Sequence[Node], combine: str) -> Tensor:
        """The measures of every leaf, a row for each."""
        self(nodes)
        assert self._out is not None
        return self._tasks.reduce_leaves(self._out, combine)


Changing = list[tuple[int, Any, int]]
"""Scalars of a launch that change: where each stands, how it is read, and of which tensor."""


def _changing_scalars(cells: Sequence[CellScalars], changing: Set[int]) -> Changing | None:
    """Those of a launch; `None` if tensors have their own, so that most of them do."""
    found: Changing = []
    at = 0
    for cell in cells:
        if any(source.per_tensor for source in cell.sources):
            return None
        for source in cell.sources:
            if source.depends_on(changing):
                found.append((at, source.read, cell.indices[0]))
            at += 1
    return found
