"""The tracer: runs the mathematics once on symbols, and makes a compiled step of their graphs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.reduction import MeasureSpec, nothing_measured
from .._core.stage import Node, Scalars
from .._numerics.scalars import double, moved
from . import _tiles
from ._block_layout import BlockLayout
from ._blocks import GRADIENT, PARAMETER
from ._calls import Input
from ._conclusion import conclusion_of
from ._graph import Graph
from ._guards import Guard, ScalarSource, Unsupported
from ._kernels import kernel_for
from ._lowering import lower_graph
from ._plans import Plans
from ._replay import CellScalars, ChosenSlot, CompiledStep, Launch, Pass, ReductionPass, Store
from ._step import StepInputs, flatten_nodes, new_params
from ._symbols import Opaque, SlotChoice, Symbol
from ._traced_scalars import TracedDraw, TracedScalars, source_near, traced_scalar
from ._whole import Scratch, WholeCell, WholePass

Outputs = tuple[dict[int, Symbol], list[Symbol]]
"""What a pass makes of one tensor: new values of its inputs, by role, and measures."""


class Tracer:
    """Traces one step, and launches each pass as soon as it is complete.

    One tensor of each cell, at `indices`, is traced; so are the tensors that no kernel can take,
    but with real values.
    """

    def __init__(
        self,
        layout: BlockLayout,
        inputs: StepInputs,
        root: Node,
        indices: Sequence[int],
        option: str,
    ) -> None:
        self._layout, self._inputs, self._indices, self._option = layout, inputs, indices, option
        self._cell_of = {cell.representative: cell for cell in layout.cells}
        self._representative_of = {
            layout.blocks[cell.block].indices[leaf]: cell.representative
            for cell in layout.cells
            for leaf in cell.leaves
        }
        self._rows: dict[int, dict[int, int]] = {}  # by node with a row for each tensor: its row
        self._nodes = flatten_nodes(root)
        self._node_index = {id(node): k for k, node in enumerate(self._nodes)}
        self._index_of = {id(inputs.given[i]): i for i in indices}
        self._graphs: dict[int, Graph] = {}
        self._lifted: dict[int, tuple[Any, list[Any]]] = {}  # parameter and slots
        self._roles: dict[tuple[int, Any], int] = {}  # of scratch columns, by block and content
        self._passes: list[Pass] = []
        self._guards_taken: dict[int, int] = {}  # of each graph, by passes before
        self._decisions: list[bool] = []
        self._stores: list[Store] = []
        self._with_grad = torch.is_grad_enabled()
        for node in self._nodes:
            node.trace_hook, node.decide_hook = self._trace_scalars, self._decisions.append
            node.whole_hook = self.whole

    def arguments(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients, slots and parameters: symbols, or real tensors where no kernel takes them."""
        columns: tuple[list[Any], ...] = ([], [], [])
        for i in self._indices:
            one = self._symbols(i) if i in self._cell_of else self._inputs.lifted(i)
            for column, x in zip(columns, one, strict=True):
                column.append(x)
        gs, slots, ps = columns
        return gs, slots, ps

    def _symbols(self, i: int) -> tuple[Any, Any, Any]:
        cell, wide = self._cell_of[i], self._inputs.compute_dtype(i)
        block = self._layout.blocks[cell.block]
        graph = self._graphs[i] = Graph(wide, block.device, self._source_of)
        at = cell.leaves[0]
        shape = block.columns[PARAMETER][at].shape
        firsts = [column[at] for column in block.columns[: block.given]]
        given: list[Any] = [
            graph.input(role, x.dtype, per)
            if per > 1 or x.shape == shape
            else Opaque.of(graph, role)
            for role, (x, per) in enumerate(zip(firsts, block.per, strict=True))
        ]
        p, g, *rest = (x.to(wide) if _is_narrow(x, wide) else x for x in given)
        if self._inputs.negate[i]:
            g = -g
        each = iter(rest)
        slots = precision.map_slots(lambda _: next(each), self._inputs.slots[i])
        self._lifted[i] = (p, rest[: len(precision.entries(slots))])
        return g, slots, p

    def _trace_scalars(self, node: Node, row: int, tensor: Tensor) -> Scalars | None:
        """The hook of the nodes: the scalars of a row, for a symbol."""
        if not isinstance(tensor, Symbol):
            return None
        values, k = node.rows[row], self._node_index[id(node)]
        graph, rows, of = tensor.graph, self._rows.get(k, {}), frozenset([k])

        def trace(name: str) -> Any:
            if name in node.per_tensor_scalars:
                source = ScalarSource(lambda nodes, i: nodes[k].rows[rows[i]][name], True, of)
            else:
                source = ScalarSource(lambda nodes, i: nodes[k].rows[row][name], of=of)
            return traced_scalar(graph, values[name], source)

        found = TracedScalars(type(node.rules[0]).__name__, values, trace)
        if node.rules[0].random:
            found.draw = TracedDraw(graph, self._layout)
        return found

    def _source_of(self, x: Tensor, device: torch.device) -> ScalarSource | None:
        """Where kernels of a device find a flag in every step, if a stage has chosen by it."""
        for k, node in enumerate(self._nodes):
            for at, flag in enumerate(node.flags):
                if flag is x:
                    return source_near(_flag_source(k, at), device)
        return None

    def reduce(self, node: Node, parts: list[Any]) -> None:
        """The reduction of a stage: launches the pass before it, and calls `conclude`."""
        k = self._node_index[id(node)]
        if not parts:
            if (nothing := nothing_measured(node)) is not None:
                empty = ReductionPass([], [], k, None, None, nothing, frozenset())
                self._passes.append(empty)
                self._conclude(empty, node, [])
            return
        _, spec = tree.flatten(parts[0])
        indices = [self._index_of[id(x)] for x in node.members.tensors]
        row_of = dict(zip(indices, node.row_of, strict=True))
        outputs: dict[int, Outputs] = {}
        measured: list[int] = []
        tables, like = [], {}
        eager: dict[torch.device, list[tuple[int, Tensor]]] = {}
        for i, part in zip(indices, parts, strict=True):
            values = [x.reshape(()) for x in spec.flatten_up_to(part)]
            device = self._inputs.ps[i].device
            like[i] = [torch.empty((), dtype=x.dtype, device=device) for x in values]
            if i in self._cell_of:
                if not all(isinstance(x, Symbol) and x.is_reduction for x in values):
                    raise Unsupported("a measure that is no reduction over entries")
                if self._graphs[i].scales_reduction and node.rules[0].combine != "sum":
                    raise Unsupported("a maximum that is multiplied")
                outputs[i] = ({}, values)
            else:
                eager.setdefault(device, []).append((i, torch.stack(list(map(double, values)))))
        launches = self._launches(outputs)
        guards = self._new_guards()
        for found in eager.values():
            measured += [i for i, _ in found]
            tables.append(torch.stack([row for _, row in found]))
        for launch in launches:
            measured += [launch.block.indices[leaf] for leaf in launch.tasks.leaves]
        order = sorted(range(len(measured)), key=measured.__getitem__)
        measured = [measured[k] for k in order]
        traced = [self._representative_of.get(i, i) for i in measured]
        known = self._inputs.keys() if node.rules[0].metrics else ()
        keys = tuple(known[i] for i in measured) if known else ()
        measures = MeasureSpec(
            spec,
            len(like[measured[0]]),
            node.members.ranks.spans([self._inputs.given[i] for i in measured]),
            [like[i] for i in traced],
            [row_of[i] for i in traced],
            lambda: keys,
        )
        conclusion = None if eager else conclusion_of(launches, self._nodes, k, measures, order)
        in_order = order == sorted(order)
        reduction = ReductionPass(
            guards if conclusion is None else [*guards, *conclusion.guards],
            launches,
            k,
            None if in_order else order,
            None if in_order else moved(torch.tensor(order, device="cpu"), measures.device),
            measures,
            frozenset(),
            conclusion,
        )
        if conclusion is not None:
            reduction.run(self._nodes)
        else:
            combine = node.rules[0].combine
            tables += [launch.measures(self._nodes, combine) for launch in launches]
            self._conclude(reduction, node, tables)
        self._take_rows(node, k, indices, measured)
        self._passes.append(reduction._replace(per_tensor_scalars=node.per_tensor_scalars))

    def _take_rows(
        self, node: Node, k: int, indices: Sequence[int], measured: Sequence[int]
    ) -> None:
        """Notes which row each tensor has, where each that was measured has its own."""
        if node.rules[0].measure_per == "tensor":
            rows = self._rows[k] = {i: row for row, i in enumerate(measured)}
            node.row_of = [rows[i] for i in indices]

    def whole(
        self, node: Node, gs: list[Any], slots: list[Any], ps: list[Any]
    ) -> tuple[list[Any], list[Any]] | None:
        """The updates and new slots of a rule that sees whole tensors: symbols for what it returns.

        `None` if none of the tensors is traced.
        """
        if not any(isinstance(g, Symbol) for g in gs):
            return None
        k = self._node_index[id(node)]
        needs_p = node.rules[0].params_needed_by() is not None
        planned = node.rules[0].batched
        outputs: dict[int, Outputs] = {}
        scratch: list[Scratch] = []
        cells, us, new = [], [], []
        rows = self._rows.get(k, {})
        each = zip(node.members.tensors, gs, slots, ps, node.row_of, strict=True)
        for tensor, g, own, p, row in each:
            i = self._index_of[id(tensor)]
            if i not in self._cell_of:
                raise Unsupported("tensors that kernels take, beside others that they do not")
            cell, graph = self._cell_of[i], self._graphs[i]
            block = self._layout.blocks[cell.block]
            entries, spec = tree.flatten(own)
            given = {"g": g, **{f"slot {n}": x for n, x in enumerate(entries)}}
            given.update({"p": p} if needs_p else {})
            writes: dict[int, Symbol] = {}
            roles = {key: self._role_of(i, (k, key), x, writes) for key, x in given.items()}
            scratch += [Scratch(block, role, graph.compute_dtype, cell.leaves) for role in writes]
            made = WholeCell(
                block,
                cell.leaves,
                [rows.get(block.indices[leaf], row) for leaf in cell.leaves],
                graph.compute_dtype,
                roles["g"],
                roles.get("p", PARAMETER),
                [roles[f"slot {n}"] for n in range(len(entries))],
                spec,
                self._scratch_role(cell.block, (k, "update")),
                [self._scratch_role(cell.block, (k, f"new {n}")) for n in range(len(entries))],
                Plans(spec) if planned and _tiles.is_chosen(self._option, block.device) else None,
            )
            outputs[i] = (writes, [])
            cells.append(made)
            us.append(graph.input(made.u, graph.compute_dtype))
            kept = [
                graph.input(role, graph.compute_dtype)
                if isinstance(x, Symbol) and x.meta.dtype.is_floating_point
                else Opaque.of(graph, role)
                for role, x in zip(made.new, entries, strict=True)
            ]
            new.append(spec.unflatten(kept))
        launches = self._launches(outputs)
        whole = WholePass(self._new_guards(), launches, scratch, k, cells)
        whole.run(self._nodes)
        self._passes.append(whole)
        return us, new

    def _role_of(self, i: int, content: Any, x: Any, writes: dict[int, Symbol]) -> int:
        """The column that has a value of a tensor; scratch, to be written, if there is none."""
        if isinstance(x, Opaque):
            return x.role
        graph = self._graphs[i]
        value = graph.values[x.at]
        if isinstance(value, Input):
            return value.role
        role = self._scratch_role(self._cell_of[i].block, content)
        graph.input(role, graph.compute_dtype)
        writes[role] = x
        return role

    def _scratch_role(self, at: int, content: Any) -> int:
        """The role of a scratch column of a block: one for each content."""
        key = (at, content)
        if key not in self._roles:
            self._roles[key] = self._layout.blocks[at].scratch_role()
        return self._roles[key]

    def _conclude(self, reduction: ReductionPass, node: Node, tables: Sequence[Tensor]) -> None:
        """Calls `conclude`, on real numbers, of which derivatives may be taken."""
        with torch.set_grad_enabled(self._with_grad):
            reduction.conclude(node, tables)

    def finish(self, us: Sequence[Tensor], slots: Sequence[Any]) -> CompiledStep:
        """Launches the last pass, which writes all results: nothing can fail any more."""
        outputs: dict[int, Outputs] = {}
        eager = []
        qs = new_params(self._nodes[0], us)
        for i, u, new, q in zip(self._indices, us, slots, qs, strict=True):
            if i in self._cell_of:
                outputs[i] = (self._writes(i, u, new, q), [])
            else:
                eager.append((i, u, new, q))
        launches = self._launches(outputs)
        compiled = CompiledStep(
            self._decisions, self._passes, self._new_guards(), launches, self._stores
        )
        compiled.finish(self._nodes)
        for one in eager:
            self._inputs.commit(*one)
        for graph in self._graphs.values():  # these, and the nodes, hold the tracer and its tensors
            graph.source_of = None
        for node in self._nodes:
            node.trace_hook = node.decide_hook = node.whole_hook = None
        return compiled

    def _writes(self, i: int, u: Any, new: Any, q: Any) -> dict[int, Any]:
        """The new values of a parameter, or its update, and its slots, by role.

        That of a parameter is `q`, if it is not its sum with the update.
        """
        p, old = self._lifted[i]
        graph, roles = self._graphs[i], self._layout.blocks[self._cell_of[i].block].roles
        entries = precision.entries(new)
        if len(entries) != len(old):
            raise Unsupported("slots that appear or disappear")
        for x in (u, *(x for x in entries if not isinstance(x, Opaque))):
            if not isinstance(x, Symbol) or x.graph is not graph or not x.meta.is_vector:
                raise Unsupported("an update or a slot that is not computed from the given tensors")
        writes = {}
        results = self._inputs.results
        if results is not None and results.are_applied:  # rounded twice, as by two functions
            dtype = results.dtypes[i].to_real()
            writes[PARAMETER] = p + (u if dtype is u.dtype else u.to(dtype).to(u.dtype))
        elif results is not None:
            writes[PARAMETER] = graph.copied(u)
        elif q is not None:
            writes[PARAMETER] = graph.copied(q)
        elif not graph.is_zero_update(u):
            writes[PARAMETER] = p + u
        cell = self._cell_of[i]
        for role, (before, after) in enumerate(zip(old, entries, strict=True), GRADIENT + 1):
            if isinstance(after, Opaque):
                target = roles.target(role)
                block, source = self._layout.blocks[cell.block], self._stored(graph, after.source)
                self._stores.append(Store(block, target, source, cell.leaves))
                continue
            # Among the results, those that are no floating-point numbers are copies already.
            is_empty = roles.out_of_place and before.meta.dtype.is_floating_point
            if before is not after or is_empty:
                writes[role] = graph.copied(after)
        return {roles.target(role): x for role, x in writes.items()}

    def _stored(self, graph: Graph, source: int | SlotChoice) -> int | ChosenSlot:
        """What is stored in a slot that no kernel writes: a column, or one of two by a flag."""
        if not isinstance(source, SlotChoice):
            return source
        lowering = lower_graph(graph, {}, [source.flag])
        if lowering.roles:
            raise Unsupported("a slot that is chosen by entries of another")
        scalars = [graph.sources[k] for k in lowering.scalars]
        yes, no = (self._stored(graph, x) for x in (source.yes, source.no))
        return ChosenSlot(lowering.lowered, scalars, yes, no)

    def _launches(self, outputs: Mapping[int, Outputs]) -> list[Launch]:
        """The launches that make these outputs: one for all cells of a block with equal graphs."""
        grouped: dict[Any, Any] = {}
        for i, (writes, measures) in outputs.items():
            if writes or measures:
                lowering = lower_graph(self._graphs[i], writes, measures)
                key = (self._cell_of[i].block, lowering.roles, lowering.lowered.text())
                grouped.setdefault(key, []).append((i, lowering))
        launches = []
        for (at, roles, _), found in grouped.items():
            block, lowered = self._layout.blocks[at], found[0][1].lowered
            scalars: list[CellScalars] = []
            cells: list[tuple[int, ...]] = []
            for i, lowering in found:
                sources = [self._graphs[i].sources[k] for k in lowering.scalars]
                leaves = self._cell_of[i].leaves
                split = any(source.per_tensor for source in sources)
                cells += [(leaf,) for leaf in leaves] if split else [leaves]
                indices = [block.indices[leaf] for leaf in leaves] if split else [i]
                scalars.append(CellScalars(sources, indices))
            kernel = kernel_for(lowered, block.device, self._option)
            tasks = block.tasks(tuple(cells), kernel.chunk)
            launches.append(Launch(kernel, block, tasks, roles, scalars))
        return launches

    def _new_guards(self) -> list[Guard]:
        """The guards since the last pass."""
        new = []
        for i, graph in self._graphs.items():
            new += graph.guards[self._guards_taken.get(i, 0) :]
            self._guards_taken[i] = len(graph.guards)
        return new


def _flag_source(k: int, at: int) -> ScalarSource:
    return ScalarSource(lambda nodes, i: nodes[k].flags[at])


def _is_narrow(x: Symbol | Opaque, wide: torch.dtype) -> bool:
    return isinstance(x, Symbol) and x.is_floating_point() and x.dtype is not wide
