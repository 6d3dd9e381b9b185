"""A step in place by kernels: recorded once, then repeated with other numbers."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _leaves, _pass, tree
from .._pass import Node, Scalars
from ..combinators import walk
from ..errors import FuncoptError
from ._blocks import Block, Tasks
from ._form import is_steady, same_form
from ._kernels import Kernel, by_lists, kernel
from ._layout import Layout
from ._numbers import Fetch, Guard, Number, Unsupported
from ._program import finish
from ._tape import Symbol, Tape
from ._work import Chosen, Work, nodes_of


class Launch(NamedTuple):
    """One kernel over some cells of one block."""

    kernel: Kernel
    block: Block
    tasks: Tasks
    roles: tuple[int, ...]
    fetches: Sequence[Sequence[Fetch]]  # the numbers of every cell

    def __call__(self, rows: Sequence[Sequence[Any]]) -> Tensor | None:
        return self.kernel(self.block, self.tasks, self.roles, rows)

    def again(self, nodes: Sequence[Node]) -> Tensor | None:
        return self([[fetch(nodes) for fetch in row] for row in self.fetches])


class Cut(NamedTuple):
    """Where a pass ends, because a sum over all tensors is needed."""

    guards: Sequence[Guard]
    launches: Sequence[Launch]
    node: int  # of the stage that asks for the sum, among `nodes_of`
    spec: tree.Spec
    tensors: Sequence[int]  # the tensors that are measured, in the order of the launches
    like: Sequence[Sequence[Tensor]]  # the measures of each, as to dtype


class Recording(NamedTuple):
    """All passes of a step."""

    cuts: Sequence[Cut]
    guards: Sequence[Guard]
    launches: Sequence[Launch]


class Changed(Exception):
    """An answer that a recording relies on is another now."""


class Fused:
    """Steps by kernels, for as long as the tensors and the transformation keep their form."""

    def __init__(self, work: Work, how: str = "fused") -> None:
        self.how = how
        self.layout = Layout(work)
        if not self.layout.cells:
            raise Unsupported(", ".join(self.layout.reasons) or "nothing to do")
        lists = [by_lists(block.device, how) for block in self.layout.blocks]
        self.name = "foreach" if any(lists) else "fused"
        firsts = (cell.first for cell in self.layout.cells)
        self._chosen = sorted([*firsts, *self.layout.alone])
        self._tx = work.tx  # the last one that it was asked about
        self._recordings: list[Recording] = []
        self._members = Chosen(self._chosen)
        steady = all(is_steady(node) for _, node in walk(work.tx))
        self._repeats = steady and not self.layout.alone

    def fits(self, work: Work) -> bool:
        if work.form is not self.layout.form:
            return False
        if work.tx is not self._tx:
            if not same_form(work.tx, self._tx):
                return False
            self._tx = work.tx
        return True

    def step(self, work: Work) -> Node:
        """Makes the step. `fits` has been asked before.

        Raises:
            Unsupported: If something cannot be recorded. Nothing has been changed then.
        """
        stand_ins = self.layout.load(work)
        node = self._repeated(work) or self._recorded(work)
        torch.autograd.graph.increment_version(self.layout.written)
        for x, stand_in in stand_ins:
            x.copy_(stand_in)
        self.layout.release()
        return node

    def _open(self, work: Work) -> Node:
        members, used = self._members(work)
        return work.tx.open([work.buckets[k] for k in used], members)

    def _repeated(self, work: Work) -> Node | None:
        for recording in self._recordings if self._repeats else ():
            node = self._open(work)
            try:
                _repeat(recording, node, work)
            except Changed:
                continue
            return node
        return None

    def _recorded(self, work: Work) -> Node:
        node = self._open(work)
        recorder = _Recorder(self.layout, work, node, self._chosen, self.how)
        gs, own, ps = recorder.arguments()
        try:
            us, slots = work.tx.run(gs, own, ps, node, recorder.reduce)
        except (FuncoptError, Unsupported):
            raise
        except Exception as error:  # of what is no tensor to compute with; else it comes again
            raise Unsupported(f"{type(error).__name__}: {error}") from error
        recording = recorder.finish(us, slots)
        if self._repeats:
            self._recordings = [recording, *self._recordings[:7]]
        return node


def _repeat(recording: Recording, node: Node, work: Work) -> None:
    nodes = nodes_of(node)
    for cut in recording.cuts:
        _check(cut.guards, nodes)
        tables = [_table(launch, launch.again(nodes), nodes[cut.node]) for launch in cut.launches]
        _settle(cut, nodes, work, tables)
    _check(recording.guards, nodes)
    for launch in recording.launches:
        launch.again(nodes)


def _check(guards: Sequence[Guard], nodes: Sequence[Node]) -> None:
    if not all(guard.holds(nodes) for guard in guards):
        raise Changed


def _table(launch: Launch, out: Tensor | None, node: Node) -> Tensor:
    """The measures of every leaf of a launch."""
    assert out is not None or not launch.tasks.count
    if out is None:
        out = torch.empty(0, 1, dtype=torch.float64, device=launch.block.device)
    return launch.tasks.gathered(out, node.rules[0].combine)


def _settle(cut: Cut, nodes: Sequence[Node], work: Work, tables: Sequence[Tensor]) -> None:
    """Combines what has been measured, in the order of the tensors."""
    order = sorted(range(len(cut.tensors)), key=cut.tensors.__getitem__)
    table = torch.cat([x.to(tables[0].device) for x in tables])
    table = table if order == sorted(order) else table[order]
    tensors, like = [work.ps[cut.tensors[k]] for k in order], [cut.like[k] for k in order]
    _pass.settle(nodes[cut.node], table, cut.spec, tensors, like)


class _Recorder:
    """Runs the mathematics on tensors that write down what is done with them."""

    def __init__(
        self, layout: Layout, work: Work, node: Node, chosen: Sequence[int], how: str
    ) -> None:
        self._layout, self._work, self._chosen, self._how = layout, work, chosen, how
        self._cell = {cell.first: cell for cell in layout.cells}
        self._nodes = nodes_of(node)
        self._index = {id(x): k for k, x in enumerate(self._nodes)}
        self._place = {id(work.ps[i]): i for i in chosen}
        self._tapes: dict[int, Tape] = {}
        self._old: dict[int, tuple[Any, list[Any]]] = {}  # parameter and slots, widened
        self._cuts: list[Cut] = []
        self._guarded: dict[int, int] = {}
        for x in self._nodes:
            x.lens = self._seen

    def arguments(self) -> Any:
        """Gradients, slots and parameters: recorded, or as they are where no kernel is."""
        columns: tuple[list[Any], ...] = ([], [], [])
        for i in self._chosen:
            one = self._inputs(i) if i in self._cell else self._work.lifted(i)
            for column, x in zip(columns, one, strict=True):
                column.append(x)
        return columns

    def _inputs(self, i: int) -> tuple[Any, Any, Any]:
        cell, wide = self._cell[i], self._work.wide(i)
        block = self._layout.blocks[cell.block]
        tape = self._tapes[i] = Tape(wide, block.device)
        given = [tape.input(role, col[0].dtype) for role, col in enumerate(block.columns)]
        p, g, *rest = (x.to(wide) if _is_narrow(x, wide) else x for x in given)
        if self._work.flips[i]:
            g = -g
        each = iter(rest)
        slots = _leaves.map_slots(lambda _: next(each), self._work.slots[i])
        self._old[i] = (p, rest)
        return g, slots, p

    def _seen(self, node: Node, row: int, tensor: Tensor) -> Scalars | None:
        if not isinstance(tensor, Symbol):
            return None
        values, k = node.rows[row], self._index[id(node)]
        tape = tensor.tape

        def see(name: str) -> Any:
            return _seen(tape, values[name], lambda nodes: nodes[k].rows[row][name])

        return Seen(type(node.rules[0]).__name__, values, see)

    def reduce(self, node: Node, parts: list[Any]) -> None:
        if not parts:
            return
        _, spec = tree.flatten(parts[0])
        where = [self._place[id(x)] for x in node.members.tensors]
        recorded: dict[int, tuple[dict[int, Symbol], list[Symbol]]] = {}
        tensors, tables, like = [], [], {}
        alone: list[Tensor] = []
        for i, part in zip(where, parts, strict=True):
            values = [x.reshape(()) for x in spec.flatten_up_to(part)]
            device = self._work.ps[i].device
            like[i] = [torch.empty((), dtype=x.dtype, device=device) for x in values]
            if i in self._cell:
                if not all(isinstance(x, Symbol) and x.reduced for x in values):
                    raise Unsupported("a measure that is no sum over entries")
                if self._tapes[i].scaled and node.rules[0].combine != "sum":
                    raise Unsupported("a maximum that is multiplied")
                recorded[i] = ({}, values)
            else:
                tensors.append(i)
                alone.append(torch.stack([x.to(torch.float64) for x in values]))
        launches = self._launches(recorded)
        guards = self._guards()
        if alone:
            tables.append(torch.stack(alone))
        for launch, _ in launches:
            for cell in launch.tasks.cells:
                own = [launch.block.members[leaf] for leaf in cell]
                like.update(dict.fromkeys(own, like[own[0]]))
                tensors += own
        for launch, rows in launches:
            tables.append(_table(launch, launch(rows), node))
        made, at = [launch for launch, _ in launches], self._index[id(node)]
        cut = Cut(guards, made, at, spec, tensors, [like[i] for i in tensors])
        _settle(cut, self._nodes, self._work, tables)
        self._cuts.append(cut)

    def finish(self, us: Sequence[Tensor], slots: Sequence[Any]) -> Recording:
        """Writes all results, now that nothing can go wrong any more."""
        outputs: dict[int, tuple[dict[int, Symbol], list[Symbol]]] = {}
        alone = []
        for i, u, new in zip(self._chosen, us, slots, strict=True):
            if i in self._cell:
                outputs[i] = (self._writes(i, u, new), [])
            else:
                alone.append((i, u, new))
        launches = self._launches(outputs)
        guards = self._guards()
        for launch, rows in launches:
            launch(rows)
        for i, u, new in alone:
            self._work.commit(i, u, new)
        for node in self._nodes:
            node.lens = None  # which holds all of this
        return Recording(self._cuts, guards, [launch for launch, _ in launches])

    def _writes(self, i: int, u: Any, new: Any) -> dict[int, Any]:
        p, old = self._old[i]
        tape = self._tapes[i]
        entries = _leaves.entries(new)
        if len(entries) != len(old):
            raise Unsupported("slots that come and go")
        for x in (u, *entries):
            if not isinstance(x, Symbol) or x.tape is not tape or not x.vector:
                raise Unsupported("a result that is not made of the tensors that were given")
        writes = {} if tape.is_nothing(u) else {0: p + u}
        for role, (before, after) in enumerate(zip(old, entries, strict=True), 2):
            if before is not after:
                writes[role] = tape.apart(after)
        return writes

    def _launches(
        self, outputs: dict[int, tuple[dict[int, Symbol], list[Symbol]]]
    ) -> list[tuple[Launch, list[list[Any]]]]:
        """The kernels that make these outputs, each with the numbers of this step."""
        grouped: dict[Any, Any] = {}
        for i, (writes, measures) in outputs.items():
            if writes or measures:
                done = finish(self._tapes[i], writes, measures)
                key = (self._cell[i].block, done.roles, done.program.text())
                grouped.setdefault(key, []).append((i, done))
        made = []
        for (at, roles, _), found in grouped.items():
            block, program = self._layout.blocks[at], found[0][1].program
            run = kernel(program, block.device, self._how)
            tasks = block.tasks(tuple(self._cell[i].leaves for i, _ in found), run.chunk)
            tapes = [(self._tapes[i], done.numbers) for i, done in found]
            fetches = [[tape.fetches[k] for k in numbers] for tape, numbers in tapes]
            rows = [[tape.numbers[k] for k in numbers] for tape, numbers in tapes]
            made.append((Launch(run, block, tasks, roles, fetches), rows))
        return made

    def _guards(self) -> list[Guard]:
        """What has been asked since the last cut."""
        new = []
        for i, tape in self._tapes.items():
            new += tape.guards[self._guarded.get(i, 0) :]
            self._guarded[i] = len(tape.guards)
        return new


class Seen(Scalars):
    """The numbers of one rule, each looked at when the rule asks for it."""

    def __init__(self, owner: str, values: Any, see: Any) -> None:
        super().__init__(owner, {})
        self._values, self._see = values, see

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            return Scalars(self._owner, self._values).__getattr__(name)
        found = self._see(name)
        self.__dict__[name] = found
        return found


def _seen(tape: Tape, value: Any, fetch: Fetch) -> Any:
    """A number as a recorded rule sees it."""
    if isinstance(value, (tuple, list)):
        return tuple(
            _seen(tape, x, functools.partial(_part, fetch, j)) for j, x in enumerate(value)
        )
    if isinstance(value, Tensor):
        near = value.device.type == "cpu" or value.device == tape.device
        if value.dim() or not near or value.is_complex():
            raise Unsupported("a number that is on another device, or has a shape")
        if value.is_floating_point():
            return tape.number(value, fetch)
        if value.dtype is torch.bool:
            return tape.flag(value, fetch)
        raise Unsupported(f"a number of {value.dtype}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(value, fetch, tape.guards)
    tape.guards.append(Guard(fetch, value))
    return value


def _part(fetch: Fetch, j: int, nodes: Sequence[Node]) -> Any:
    return fetch(nodes)[j]


def _is_narrow(x: Tensor, wide: torch.dtype) -> bool:
    return x.is_floating_point() and x.dtype is not wide
