"""How much memory an optimizer or a transformation takes, before any of it is there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import tree
from .._core.explanation import Row, Table, in_bytes
from .._core.memory_plan import MemoryPlan, StateEntry
from .._core.names import names_of
from .._core.precision import zero_like
from .._core.tensor_rule import GradientTransformation, NamedParams, PerTensor
from .._numerics import shards
from .._numerics.made_on import MadeOn
from .._numerics.names import plain_name
from ..combinators import chain
from ._factory import per_tensor
from ._groups import ParameterGroups
from ._options import Options, named_parameters
from ._state_layout import STEP, UPDATES, StateLayout, clock_dtype, initial_state

T = TypeVar("T")

SHOWN = 24
"""How many lines a table has at most."""


def plan_of_optimizer(
    param_groups: list[Options],
    state: Mapping[Any, Any],
    groups: ParameterGroups | None,
) -> MemoryPlan:
    """The memory of an optimizer: by `init_state`, frozen parameters have no state.

    Args:
        param_groups: Its groups.
        state: Its state as it is.
        groups: What its groups make; `None` of an optimizer of torch, whose state is counted as
            it is.
    """
    entries: list[StateEntry] = []
    every: dict[Tensor, None] = {}
    scheduled = groups is not None and any(groups.schedules)
    for index, group in enumerate(param_groups):
        called = str(group.get("name", index))
        clocks = [STEP, UPDATES] if scheduled else [STEP]
        for at, (name, p) in enumerate(named_parameters(group)):
            if p in every:
                continue
            every[p] = None
            key = name or str(at)
            if groups is None:
                found = {k: x for k, x in state.get(p, {}).items() if isinstance(x, Tensor)}
                entries += [_entry(called, key, k, x, p, x.dim() > 0) for k, x in found.items()]
            elif p.requires_grad:
                tx = groups.transformation(param_groups, index).tx
                entries += _entries(called, key, *_planned(initial_state, tx, name, p), p)
                entries += [_clock(called, key, clock, clock_dtype()) for clock in clocks]
    stored = [x for own in state.values() if isinstance(own, Mapping) for x in own.values()]
    allocated = sum(_bytes(x) for x in stored if isinstance(x, Tensor))
    with_gradients = [p for p in every if p.requires_grad]
    return _plan(entries, list(every), with_gradients, allocated)


def plan_of_tree(tx: GradientTransformation, params: Any) -> MemoryPlan:
    """The memory of the pure form, for a tree of parameters or a module."""
    named, every = trained(params)
    entries = []
    for name, p in named:
        own = _entries("", name or "", *_planned(initial_state, per_tensor(tx), name, p), p)
        entries += [x for x in own if x.entries is not None]
    for key, x in _shared(tx, [p for _, p in named]) if named else ():
        entries.append(StateEntry("", "", key.rpartition("/")[2], x.shape, x.dtype, None))
    return _plan(entries, every, [p for _, p in named], None)


def _shared(tx: GradientTransformation, ps: list[Tensor]) -> Iterable[tuple[str, Tensor]]:
    """The step counts and shared scalars in the pure form, by path."""
    if isinstance(tx, chain) and not tx.is_per_tensor():
        for stage in tx.stages:
            yield from _shared(stage, ps)
        return
    of: PerTensor = per_tensor(tx)  # type: ignore[assignment]
    shared = {"memory": of.init_memory(zero_like(ps).to("meta"))}
    if tx.is_per_tensor():
        shared[STEP] = torch.zeros((), dtype=torch.int64)
    yield from zip(tree.names(shared), tree.leaves(shared), strict=True)


def trained(params: Any) -> tuple[NamedParams, Sequence[Tensor]]:
    """The parameters that are trained, with their names, and all; of a module, as it says itself.

    Those of a tree are: nothing in it is there for anything else.
    """
    if isinstance(params, nn.Module):
        every = [(plain_name(name), p) for name, p in params.named_parameters()]
        return [(name, p) for name, p in every if p.requires_grad], [p for _, p in every]
    pairs = zip(names_of(params), tree.leaves(params), strict=True)
    named = [(name, p) for name, p in pairs if isinstance(p, Tensor)]
    return named, [p for _, p in named]


def _planned(function: Callable[..., T], *args: Any) -> T:
    """What a function returns, on the meta device."""
    try:
        with MadeOn("meta"):
            return function(*args)
    except (RuntimeError, NotImplementedError):  # of a rule, or of labels, that read values
        return function(*args)


def _entries(
    group: str, key: str, layout: StateLayout, initial: Mapping[str, Tensor], p: Tensor
) -> list[StateEntry]:
    return [_entry(group, key, slot, x, p, slot in layout.slot_at) for slot, x in initial.items()]


def _entry(group: str, key: str, slot: str, x: Tensor, p: Tensor, own: bool) -> StateEntry:
    part = shards.part(x)
    return StateEntry(
        group, key, slot, part.shape, part.dtype, shards.part(p).numel() if own else None
    )


def _clock(group: str, key: str, name: str, dtype: torch.dtype) -> StateEntry:
    return StateEntry(group, key, name, torch.Size(()), dtype, None)


def _plan(
    entries: Sequence[StateEntry],
    every: Sequence[Tensor],
    with_gradients: Sequence[Tensor],
    allocated: int | None,
) -> MemoryPlan:
    frozen = len(every) - len(with_gradients)
    parameters, gradients = (sum(map(_bytes, ps)) for ps in (every, with_gradients))
    return MemoryPlan(tuple(entries), parameters, gradients, allocated, frozen)


def _bytes(x: Tensor) -> int:
    part = shards.part(x)
    return part.numel() * part.element_size()


def memory_table(plan: MemoryPlan) -> Table:
    """A row for each slot of each group, with bytes for each entry of its parameters."""
    groups = dict.fromkeys(x.group for x in plan.entries)
    columns = ["group"] * (len(groups) > 1) + ["slot", "per entry", "bytes"]
    rows = [
        Row([group if first else ""] * (len(groups) > 1) + cells)
        for group in groups
        for first, cells in _of_group([x for x in plan.entries if x.group == group])
    ]
    if len(rows) > SHOWN + 1:
        more = f"... and {len(rows) - SHOWN} more"
        rows = [*rows[:SHOWN], Row((more, *[""] * (len(columns) - 1)))]
    title = f"memory: state {in_bytes(plan.state)}" + " on the CPU" * plan.offloaded
    if plan.allocated is not None and plan.state:
        title += f" ({_allocated(plan.allocated, plan.state)})"
    title += f", parameters {in_bytes(plan.parameters)}, gradients {in_bytes(plan.gradients)}"
    plural = "parameters have" if plan.frozen > 1 else "parameter has"
    closing = f"{plan.frozen} frozen {plural} no state" if plan.frozen else ""
    return Table(title, columns if rows else (), rows, closing=closing)


def _allocated(now: int, planned: int) -> str:
    if 0 < now < planned:
        return f"{in_bytes(now)} of it allocated"
    return "allocated" if now else "not yet allocated"


def _of_group(entries: Sequence[StateEntry]) -> Iterable[tuple[bool, list[str]]]:
    """The cells of each slot, and whether it is the first; step counts and the like share a row."""
    slots: dict[str, list[StateEntry]] = {}
    for x in entries:
        slots.setdefault("" if x.entries is None else x.slot, []).append(x)
    scalars = slots.pop("", [])
    for i, (slot, own) in enumerate(slots.items()):
        size = sum(x.bytes for x in own)
        count = sum(x.entries or 0 for x in own)
        yield not i, [slot, in_bytes(size / count) if count else "", in_bytes(size)]
    if scalars:
        keys = ", ".join(dict.fromkeys(x.slot for x in scalars))
        yield not slots, [keys, "", in_bytes(sum(x.bytes for x in scalars))]
