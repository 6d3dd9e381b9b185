"""Whole passes: between two kernels, the functions of torch by which a rule sees whole tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.stage import Node
from . import triton
from ._blocks import PARAMETER, Block, same_memory_order
from ._freed_memory import keep_freed_memory
from ._guards import Guard, Unsupported
from ._plans import Plans
from ._replay import Launch


class Scratch(NamedTuple):
    """A column for what a kernel passes on to a rule, in fresh memory."""

    block: Block
    role: int
    dtype: torch.dtype
    leaves: Sequence[int]

    def allocate(self) -> None:
        """Makes it, for this step."""
        like = self.block.columns[PARAMETER]
        for leaf in self.leaves:
            new = torch.empty_like(like[leaf], dtype=self.dtype)
            self.block.set_scratch(self.role, leaf, new)


class WholeCell(NamedTuple):
    """The tensors of a cell, by the roles of their columns, and the rows of their scalars."""

    block: Block
    leaves: Sequence[int]
    rows: Sequence[int]
    dtype: torch.dtype  # that is computed in
    g: int
    p: int
    slots: Sequence[int]  # of each entry
    spec: tree.Spec[Any]  # the structure of the slots of one tensor
    u: int
    new: Sequence[int]  # of each entry of the new slots
    plans: Plans | None  # by which it is made one by one; `None` if by functions of torch alone

    def run(self, node: Node) -> None:
        """Calls the rule, and puts what it returns into columns."""
        rule, column = node.rules[0], self.block.columns
        gs = [self._lifted(column[self.g][leaf]) for leaf in self.leaves]
        ps = [self._lifted(column[self.p][leaf]) for leaf in self.leaves]
        old = [[self._lifted(column[role][leaf]) for role in self.slots] for leaf in self.leaves]
        scalars = {row: node.row_scalars(row, self.dtype, self.block.device) for row in self.rows}
        slots = list(map(self.spec.unflatten, old))
        us: list[Any] = [None] * len(gs)
        new = us.copy()
        for places in self._batches(rule, gs, old):
            own = [scalars[self.rows[k]] for k in places]
            if self.plans is not None:
                (k,) = places
                given = [gs[k], *old[k], ps[k]]
                us[k], new[k] = self.plans.update(rule, self.leaves[k], given, *own)
                continue
            some_gs, some_slots, some_ps = ([x[k] for k in places] for x in (gs, slots, ps))
            update: Any = updated_together if len(places) > 1 else type(rule).whole_tensors
            made = update(rule, some_gs, some_slots, some_ps, own)
            for k, u, after in zip(places, *made, strict=True):
                us[k], new[k] = u, after
        for leaf, u, before, after in zip(self.leaves, us, old, new, strict=True):
            self._keep(leaf, u, before, precision.entries(after))

    def _batches(
        self, rule: Any, gs: Sequence[Tensor], slots: Sequence[Sequence[Tensor]]
    ) -> list[list[int]]:
        """The places of tensors that are updated together: of one shape, with the same scalars."""
        if not (rule.batched and pays(self.block.device)):
            return [[k] for k in range(len(gs))]
        found: dict[Any, list[int]] = {}
        for k, (g, own) in enumerate(zip(gs, slots, strict=True)):
            shapes = [(x.shape, x.dtype) for x in (g, *own)]
            found.setdefault((self.rows[k], *shapes), []).append(k)
        batches = []
        for places in found.values():
            count = max(1, MOST_ENTRIES // max(1, gs[places[0]].numel()))
            batches += [places[k : k + count] for k in range(0, len(places), count)]
        return batches

    def _lifted(self, x: Tensor) -> Tensor:
        """A tensor as rules see it; none is complex here."""
        if not x.dim() and not self.block.columns[PARAMETER][self.leaves[0]].dim():
            x = x.reshape(1)
        return x.to(self.dtype) if x.is_floating_point() else x

    def _keep(self, leaf: int, u: Tensor, old: Sequence[Tensor], new: Sequence[Tensor]) -> None:
        if len(new) != len(old):
            raise Unsupported("slots that appear or disappear")
        block = self.block
        given = [column[leaf] for column in block.columns[: block.given]]
        changed = [y for x, y in zip(old, new, strict=True) if x is not y]
        u, *values = precision.unaliased((u, *changed), given)
        block.set_scratch(self.u, leaf, _laid_as(given[PARAMETER], u.to(self.dtype)))
        each = iter(values)
        for role, at, x, y in zip(self.slots, self.new, old, new, strict=True):
            y = x if x is y else next(each)
            y = y.to(self.dtype) if y.is_floating_point() else y
            block.set_scratch(at, leaf, _laid_as(block.columns[role][leaf], y))


MOST_ENTRIES = 2**25
"""In a batch: it needs memory for copies, and large tensors keep a device busy one by one."""


def pays(device: torch.device) -> bool:
    """Whether one call for many tensors is faster than one for each, as where launches count."""
    return device.type != "cpu"


def updated_together(
    rule: Any,
    gs: Sequence[Tensor],
    slots: Sequence[Any],
    ps: Sequence[Tensor],
    scalars: Sequence[Any],
) -> tuple[Sequence[Tensor], Sequence[Any]]:
    """`whole_tensors` of one shape with the same scalars, by one call under `vmap`."""

    def one(g: Tensor, own: Any, p: Tensor) -> Any:
        (u,), (new,) = rule.whole_tensors([g], [own], [p], [scalars[0]])
        return u, new

    own = tree.map(lambda *x: torch.stack(x), *slots)
    needs_p = rule.params_needed_by() is not None  # of others, only the form is known
    p = torch.stack(list(ps)) if needs_p else ps[0]
    u, new = torch.func.vmap(one, (0, 0, 0 if needs_p else None))(torch.stack(list(gs)), own, p)
    leaves, spec = tree.flatten(new)
    each = zip(*(x.unbind() for x in leaves), strict=True) if leaves else [()] * len(gs)
    return u.unbind(), [spec.unflatten(x) for x in each]


class WholePass(NamedTuple):
    """A rule that sees whole tensors: kernels write what it gets, others read what it returns."""

    guards: Sequence[Guard]
    launches: Sequence[Launch]
    scratch: Sequence[Scratch]
    node: int  # the index, among `flatten_nodes`, of the stage
    cells: Sequence[WholeCell]

    def run(self, nodes: Sequence[Node]) -> None:
        """Makes the updates and new slots of the stage, in fresh memory."""
        keep_freed_memory()  # the temporaries of the next step are as large
        for one in self.scratch:
            one.allocate()
        for launch in self.launches:
            launch(nodes)
        with triton.at_once(), torch.no_grad():
            # Derivatives end at kernels: whoever takes them is not here.
            for cell in self.cells:
                cell.run(nodes[self.node])

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Nothing more has to be the same."""
        del nodes
        return True


def _laid_as(like: Tensor, x: Tensor) -> Tensor:
    """`x` in the shape and the memory order of a tensor."""
    x = x.reshape(like.shape)
    return x if same_memory_order([like, x]) else torch.empty_like(like, dtype=x.dtype).copy_(x)
