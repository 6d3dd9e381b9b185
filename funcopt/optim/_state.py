"""The state of an optimizer: a flat dict of tensors for every parameter, and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .._core import precision
from .._core.reduction import reduce
from .._core.stage import Bucket, Node
from .._numerics import shards
from ..combinators import paths
from ._clocks import packed
from ._groups import Grouped, Made, named
from ._layout import STEP, UPDATES, Layout, begin, clock_dtype
from ._step_plan import Active, Plan
from ._values import Values


class Stored(Grouped):
    """What an optimizer knows of the state of its parameters: to read it, and to write it."""

    def _forget(self) -> None:
        super()._forget()
        self._layouts: Any = WeakTensorKeyDictionary()  # by parameter

    def _layout(self, name: str | None, p: Tensor, made: Made) -> tuple[Layout, Values | None]:
        """The layout of a parameter's state; where it is made anew, the beginning of that too."""
        key = (name, made.kind, p.shape, p.dtype, p.device)
        known = self._layouts.get(p)
        if known is not None and known[0] == key:
            return known[1], None
        where, begun = begin(made.tx, name, p)
        self._layouts[p] = (key, where)
        return where, begun

    def _entry(
        self,
        index: int,
        name: str | None,
        p: Tensor,
        made: Made,
        find_common: Callable[[], dict[int, list[Tensor]]],
    ) -> Active:
        old = self.state.get(p, {})
        where, stored = self._stored(name, p, made)
        if where.shared:  # what all have in common, a late joiner takes from the others
            common = find_common()
            at = {key: where.memory_at[key] for key in where.shared}
            stored = {**stored, **{k: common[i][0] for k, i in at.items() if i in common}}
        slots, memory = where.unpack(stored)
        clock = [stored[key] for key in where.memory_at if key not in where.shared]
        step = old.get(STEP)
        if step is None:  # torch's SGD keeps no step: with slots there, this is not the first
            first = not any(key in old for key in where.keys)
            step = self._clock(0.0 if first else 1.0, p, self.param_groups[index])
        known = STEP in old and all(key in old for key in where.keys)
        known = known and (UPDATES in old or not any(self._schedules))
        return Active(index, name, p, made, where, slots, memory, step, clock, known)

    def _stored(self, name: str | None, p: Tensor, made: Made) -> tuple[Layout, Values]:
        """The layout of a parameter's state, and its tensors; those not there yet as they begin."""
        where, begun = self._layout(name, p, made)
        stored = self.state.get(p, {})
        if any(key not in stored for key in where.keys):
            stored = {**(begun or begin(made.tx, name, p)[1]), **stored}
        return where, stored

    def _average(self, index: int, name: str | None, p: Tensor) -> Tensor | None:
        """The average of a parameter; `None` if no stage keeps one."""
        if not (p.is_floating_point() or p.is_complex()):
            return None
        made = self._group(index)
        where, stored = self._stored(name, p, made)
        value = made.tx.eval_param(name, p, *where.unpack(stored))
        return None if value is p else value

    def _counts(self, index: int, updates: Any) -> Values:
        tx, first = self._group(index).tx, next(named(self.param_groups[index]), None)
        if first is None:
            return {}
        memory = tx.init_memory(precision.zero_like([first[1]]))
        tensors = precision.entries(memory)
        if not tensors:  # no stage has a clock of its own
            return {}
        for place, copies in self._common().items():
            tensors[place] = copies[0]
        each = iter(tensors)
        counts = tx.counts(updates, precision.map_slots(lambda _: next(each), memory))
        by_path = {"/".join(path): count for path, count in counts.items()}
        found = {key: path.rpartition("/")[0] for key, path in paths(tx, first).items()}
        return {key: by_path[path] for key, path in found.items() if path in by_path}

    def _common(self) -> dict[int, list[Tensor]]:
        """The copies of the memory that parameters have in common, by its place in the memory."""
        found: dict[int, list[Tensor]] = {}
        for index, group in enumerate(self.param_groups):
            if not group["params"]:
                continue
            made = self._group(index)
            for name, p in named(group):
                state = self.state.get(p, {})
                where, _ = self._layout(name, p, made)
                for key in where.shared.intersection(state):
                    found.setdefault(where.memory_at[key], []).append(state[key])
        return found

    def _followed(self, plan: Plan, rows: list[Bucket], extra: Mapping[str, Any]) -> Node:
        """A step that autograd follows: what is stored is replaced, not written over."""
        work = plan.work(self, rows, extra)
        node = work.tx.open(rows, work.members())
        gs, own, ps = (list(x) for x in zip(*map(work.lifted, range(len(plan.ps))), strict=True))
        us, new = work.tx.run(gs, own, ps, node, reduce)
        for i, (one, u, slots) in enumerate(zip(plan.active, us, new, strict=True)):
            slots = precision.unaliased(precision.lower_slots(slots, one.slots), [one.p])
            p = shards.local(one.p)
            (torch.view_as_real(p) if p.is_complex() else p).add_(
                u if p.is_complex() else u.view_as(p)
            )
            plan.slots[i] = slots
        return node

    def _begin(self, plan: Plan, memories: Sequence[Any], updates: Tensor | None) -> None:
        """Puts what a step has begun into the state, and what it has changed."""
        made = []
        for one, slots, bucket in zip(plan.active, plan.slots, plan.which, strict=True):
            new = one.layout.pack(slots, memories[bucket])
            new[STEP] = one.step + 1
            if updates is not None:
                new[UPDATES] = updates
            made.append(new)
        before = [self.state.get(one.p, {}) for one in plan.active]
        self._pack(zip(before, made, strict=True))
        for one, new in zip(plan.active, made, strict=True):
            self._write(one.p, new)
        self._commit_common(plan.active, [memories[bucket] for bucket in plan.which])

    def _pack(self, pairs: Iterable[tuple[Mapping[str, Any], dict[str, Tensor]]]) -> None:
        """Makes one vector of the numbers that several parameters get for the first time."""
        found: dict[Any, list[dict[str, Tensor]]] = {}
        for old, new in pairs:
            for key, value in new.items():
                if key not in old and value.dim() == 0:
                    found.setdefault((key, value.dtype, value.device), []).append(new)
        for (key, *_), rows in found.items():
            for new, part in zip(rows, packed([new[key] for new in rows]), strict=True):
                new[key] = part

    def _commit_common(self, active: list[Active], memories: list[Any]) -> None:
        """Writes the memory that parameters have in common to those too that took no part."""
        if not any(one.layout.shared for one in active):
            return
        after: dict[int, Tensor] = {}
        for one, memory in zip(active, memories, strict=True):
            for key in one.layout.shared:
                at = one.layout.memory_at[key]
                after[at] = precision.entries(memory)[at]
        for at, copies in self._common().items():
            for copy in copies if at in after else ():
                copy.copy_(after[at])

    def _write(self, p: Tensor, new: Mapping[str, Tensor]) -> None:
        """Puts tensors into the state of `p`, in place where there are some."""
        state = self.state[p]
        for key, value in new.items():
            if key in state and not self.defaults["differentiable"]:
                if state[key] is not value:
                    shards.local(state[key]).copy_(shards.local(value))
            else:
                # A tensor of all parameters becomes one of this one alone.
                shared = self.defaults["differentiable"] and value.dim() == 0
                state[key] = value.clone() if shared else value

    def _clock(self, value: float, p: Tensor, group: Mapping[str, Any]) -> Tensor:
        device = p.device if group.get("capturable") else "cpu"
        return torch.tensor(value, dtype=clock_dtype(), device=device)

    def _templates(self, index: int, name: str | None, p: Tensor) -> dict[str, Tensor]:
        """What the state of a parameter holds when it is created, on the meta device."""
        return self._layout(name, p, self._group(index))[0].templates()

    def init_state(self) -> None:
        """Creates the state of all parameters as it is before their first step.

        So that a checkpoint from before the first step is complete, and no step has to be made for
        it. What exists already is kept.
        """
        new: dict[Tensor, dict[str, Tensor]] = {}
        for index, group in enumerate(self.param_groups):
            made = self._group(index)
            for name, p in named(group):
                if p.is_floating_point() or p.is_complex():
                    _, begun = begin(made.tx, name, p)
                    begun[STEP] = self._clock(0.0, p, group)
                    if (updates := self._updates()) is not None:
                        begun[UPDATES] = updates
                    old = self.state.get(p, {})
                    new[p] = {k: v for k, v in begun.items() if k not in old}
        self._pack([({}, begun) for begun in new.values()])
        for p, begun in new.items():
            self._write(p, begun)
