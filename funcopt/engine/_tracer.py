"""Runs the mathematics once, on tensors that write down what is done with them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.reduction import MeasureSpec
from .._core.stage import Node, Scalars
from ._graph import Number, Symbol, Tape
from ._guards import Guard, ScalarSource, Unsupported
from ._kernels import kernel
from ._layout import Layout
from ._program import finish
from ._replay import Cut, Launch, Recording, Source, settle, table_of
from ._step import StepInputs, flatten_nodes


class Recorder:
    """Runs the mathematics on tensors that write down what is done with them."""

    def __init__(
        self, layout: Layout, inputs: StepInputs, node: Node, chosen: Sequence[int], how: str
    ) -> None:
        self._layout, self._inputs, self._chosen, self._how = layout, inputs, chosen, how
        self._cell = {cell.first: cell for cell in layout.cells}
        self._first = {
            layout.blocks[cell.block].members[leaf]: cell.first
            for cell in layout.cells
            for leaf in cell.leaves
        }
        self._rows: dict[int, dict[int, int]] = {}  # by node: where each tensor has its own numbers
        self._nodes = flatten_nodes(node)
        self._index = {id(x): k for k, x in enumerate(self._nodes)}
        self._place = {id(inputs.ps[i]): i for i in chosen}
        self._tapes: dict[int, Tape] = {}
        self._old: dict[int, tuple[Any, list[Any]]] = {}  # parameter and slots, widened
        self._cuts: list[Cut] = []
        self._guarded: dict[int, int] = {}
        for x in self._nodes:
            x.trace_hook = self._seen

    def arguments(self) -> Any:
        """Gradients, slots and parameters: recorded, or as they are where no kernel is."""
        columns: tuple[list[Any], ...] = ([], [], [])
        for i in self._chosen:
            one = self._trace_inputs(i) if i in self._cell else self._inputs.lifted(i)
            for column, x in zip(columns, one, strict=True):
                column.append(x)
        return columns

    def _trace_inputs(self, i: int) -> tuple[Any, Any, Any]:
        cell, wide = self._cell[i], self._inputs.compute_dtype(i)
        block = self._layout.blocks[cell.block]
        tape = self._tapes[i] = Tape(wide, block.device)
        given = [tape.input(role, col[0].dtype) for role, col in enumerate(block.columns)]
        p, g, *rest = (x.to(wide) if _is_narrow(x, wide) else x for x in given)
        if self._inputs.negate[i]:
            g = -g
        each = iter(rest)
        slots = precision.map_slots(lambda _: next(each), self._inputs.slots[i])
        self._old[i] = (p, rest)
        return g, slots, p

    def _seen(self, node: Node, row: int, tensor: Tensor) -> Scalars | None:
        if not isinstance(tensor, Symbol):
            return None
        values, k = node.rows[row], self._index[id(node)]
        tape, rows = tensor.tape, self._rows.get(k, {})

        def see(name: str) -> Any:
            if name in node.per_tensor_scalars:
                fetch = ScalarSource(lambda nodes, i: nodes[k].rows[rows[i]][name], per_tensor=True)
            else:
                fetch = ScalarSource(lambda nodes, i: nodes[k].rows[row][name])
            return _seen(tape, values[name], fetch)

        return Seen(type(node.rules[0]).__name__, values, see)

    def reduce(self, node: Node, parts: list[Any]) -> None:
        if not parts:
            return
        _, spec = tree.flatten(parts[0])
        chosen = [self._place[id(x)] for x in node.members.tensors]
        which = dict(zip(chosen, node.row_of, strict=True))
        recorded: dict[int, tuple[dict[int, Symbol], list[Symbol]]] = {}
        places, tables, like = [], [], {}
        alone: list[Tensor] = []
        for i, part in zip(chosen, parts, strict=True):
            values = [x.reshape(()) for x in spec.flatten_up_to(part)]
            device = self._inputs.ps[i].device
            like[i] = [torch.empty((), dtype=x.dtype, device=device) for x in values]
            if i in self._cell:
                if not all(isinstance(x, Symbol) and x.reduced for x in values):
                    raise Unsupported("a measure that is no sum over entries")
                if self._tapes[i].scaled and node.rules[0].combine != "sum":
                    raise Unsupported("a maximum that is multiplied")
                recorded[i] = ({}, values)
            else:
                places.append(i)
                alone.append(torch.stack([x.to(torch.float64) for x in values]))
        launches = self._launches(recorded)
        guards = self._guards()
        if alone:
            tables.append(torch.stack(alone))
        for launch in launches:
            places += [launch.block.members[leaf] for leaf in launch.tasks.leaves]
            tables.append(table_of(launch, launch(self._nodes), node))
        order = sorted(range(len(places)), key=places.__getitem__)
        places = [places[k] for k in order]
        firsts = [self._first.get(i, i) for i in places]
        measured = MeasureSpec(
            spec,
            [self._inputs.ps[i] for i in places],
            [like[i] for i in firsts],
            [which[i] for i in firsts],
        )
        at = self._index[id(node)]
        shuffled = None
        if order != sorted(order):
            shuffled = torch.tensor(order, device="cpu").to(tables[0].device)
        cut = Cut(guards, launches, at, shuffled, measured, frozenset())
        settle(cut, node, tables)
        if node.rules[0].measure_per == "tensor":
            rows = self._rows[at] = {i: row for row, i in enumerate(places)}
            node.row_of = [rows[i] for i in chosen]
        self._cuts.append(cut._replace(own=node.per_tensor_scalars))

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
        for launch in launches:
            launch(self._nodes)
        for i, u, new in alone:
            self._inputs.commit(i, u, new)
        for node in self._nodes:
            node.trace_hook = None  # which holds all of this
        return Recording(self._cuts, guards, launches)

    def _writes(self, i: int, u: Any, new: Any) -> dict[int, Any]:
        p, old = self._old[i]
        tape = self._tapes[i]
        entries = precision.entries(new)
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

    def _launches(self, outputs: dict[int, tuple[dict[int, Symbol], list[Symbol]]]) -> list[Launch]:
        """The kernels that make these outputs."""
        grouped: dict[Any, Any] = {}
        for i, (writes, measures) in outputs.items():
            if writes or measures:
                done = finish(self._tapes[i], writes, measures)
                key = (self._cell[i].block, done.roles, done.program.text())
                grouped.setdefault(key, []).append((i, done))
        made = []
        for (at, roles, _), found in grouped.items():
            block, program = self._layout.blocks[at], found[0][1].program
            sources: list[Source] = []
            cells: list[tuple[int, ...]] = []
            for i, done in found:
                fetches = [self._tapes[i].fetches[k] for k in done.numbers]
                leaves = self._cell[i].leaves
                apart = any(fetch.per_tensor for fetch in fetches)
                cells += [(leaf,) for leaf in leaves] if apart else [leaves]
                places = [block.members[x] for x in leaves] if apart else [i]
                sources.append(Source(fetches, places))
            run = kernel(program, block.device, self._how)
            made.append(Launch(run, block, block.tasks(tuple(cells), run.chunk), roles, sources))
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


def _seen(tape: Tape, value: Any, fetch: ScalarSource) -> Any:
    """A number as a recorded rule sees it."""
    if isinstance(value, (tuple, list)):
        return tuple(_seen(tape, x, _part(fetch, j)) for j, x in enumerate(value))
    if isinstance(value, Tensor):
        near = value.device.type == "cpu" or value.device == tape.device
        if value.dim() or not near or value.is_complex():
            raise Unsupported("a number that is on another device, or has a shape")
        if value.is_floating_point():
            return tape.number(fetch)
        if value.dtype is torch.bool:
            return tape.flag(fetch)
        raise Unsupported(f"a number of {value.dtype}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(value, fetch, tape.guards)
    tape.guards.append(Guard(fetch, value))
    return value


def _part(fetch: ScalarSource, j: int) -> ScalarSource:
    find = fetch.read
    return ScalarSource(lambda nodes, i: find(nodes, i)[j], fetch.per_tensor)


def _is_narrow(x: Tensor, wide: torch.dtype) -> bool:
    return x.is_floating_point() and x.dtype is not wide
