"""The pure form at the speed of memory: updates and new slots are written once, into fresh memory.

What an update works on is read once, and stays as it is. `GradientTransformation.update` comes here
first; where this is not the way to make it, it goes on operation by operation.
"""

import copy
import logging
import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

from .. import tree
from .._core import pure
from .._core.due import awaits
from .._core.names import names_of
from .._core.precision import map_slots
from .._core.ranks import Ranks
from .._core.stage import Bucket, Node, State
from .._core.tensor_rule import PerTensor
from .._numerics.names import plain_names
from .._numerics.scalars import is_mapped, is_plain, is_wrapped, number
from ..errors import StructureError
from ._engine import are_large
from ._guards import Unsupported
from ._kernels import has_compiler
from ._options import chosen_for_updates
from ._step import Results, StepInputs, flatten_nodes
from ._tensor_guard import TensorGuard
from ._traced_backend import TracedBackend

log = logging.getLogger("funcopt")


class _Kept(threading.local):
    """What was found for transformations that are alive, by their `id`: for each thread its own."""

    def __init__(self) -> None:
        self.roads: dict[int, tuple[weakref.ref[PerTensor], _Road]] = {}


_kept = _Kept()


def _update(
    tx: PerTensor, updates: Any, state: State, params: Any, extra: Mapping[str, Any]
) -> tuple[Any, State, Node] | None:
    """The update by kernels; `None` if it is to be made operation by operation."""
    option = chosen_for_updates()
    if option in ("eager", "torch") or params is None or extra or _is_watched():
        return None
    roads, key = _kept.roads, id(tx)
    found = roads.get(key)
    if found is None or found[0]() is not tx:
        # A copy, since a road that held the transformation itself would keep it alive.
        found = roads[key] = weakref.ref(tx, lambda _: roads.pop(key, None)), _Road(copy.copy(tx))
    return found[1].update(updates, state, params, option)


def _is_watched() -> bool:
    """Whether something follows all operations that are made here."""
    if is_mapped() or torch._C._len_torch_dispatch_stack():
        return True
    if torch._C._get_tracing_state() is not None:  # of `torch.jit.trace`
        return True
    if forward_ad._current_level >= 0:  # a dual tensor looks like any other
        return True
    modes = map(torch._C._get_function_stack_at, range(torch._C._len_torch_function_stack()))
    return any(type(mode) is not DeviceContext for mode in modes)  # which is a default device


class _Form(NamedTuple):
    """What was found of trees: it holds for others with the same structure and metadata."""

    option: str
    with_grad: bool
    specs: tuple[tree.Spec[Any], ...]  # of parameters, updates and slots
    guard: TensorGuard
    active: list[int]  # those with a gradient
    names: list[str]
    keys: list[str]
    ranks: Ranks

    def holds(self, option: str, specs: tuple[tree.Spec[Any], ...], tensors: list[Any]) -> bool:
        return (
            self.option == option
            and self.with_grad == torch.is_grad_enabled()
            and self.specs == specs
            and self.guard.holds(tensors)
        )


class _Road:
    """The updates of one transformation: what was found for the first is used for those like it."""

    def __init__(self, tx: PerTensor) -> None:
        self._tx = tx
        self._form: _Form | None = None
        self._backend: TracedBackend | None = None  # of that form; `None` if there is none

    def update(
        self, updates: Any, state: State, params: Any, option: str
    ) -> tuple[Any, State, Node] | None:
        """The update, if kernels make it."""
        tx = self._tx
        ps, spec = tree.flatten(params)
        if option == "auto" and not _pays(ps):
            return None
        gs, of_updates = tree.flatten(updates)
        flat, of_slots = tree.flatten(state.slots)
        tensors = [*ps, *gs, *flat, *tree.leaves(state.memory)]
        specs = (spec, of_updates, of_slots)
        if self._form is not None and self._form.holds(option, specs, tensors):
            if self._backend is None:
                return None
            form = self._form
        else:
            active = [i for i, g in enumerate(gs) if g is not None]
            names = names_of(params)
            form = self._form = _Form(
                option,
                torch.is_grad_enabled(),
                specs,
                TensorGuard(tensors),
                active,
                [names[i] for i in active],
                [plain_names(tree.names(params))[i] for i in active],
                Ranks(()),
            )
            self._backend = None
            if not _suits(tx, specs, ps, gs, tensors):
                return None
        try:
            own = spec.flatten_up_to(state.slots)
        except StructureError:  # which says more where it is made operation by operation
            return None
        inputs = self._inputs(form, [ps, gs, own], state)
        if self._backend is None or not self._backend.holds(inputs):
            self._backend = _backend(inputs, option)
            if self._backend is None:
                return None
        try:
            node = self._backend.step(inputs)
        except Unsupported as reason:
            log.info("updates of %s are made operation by operation: %s", type(tx).__name__, reason)
            self._backend = None
            return None
        scalars = [(x.rows, x.memory) for x in flatten_nodes(node)]
        if torch.is_grad_enabled() and _requires_grad(scalars):
            self._backend = None  # kernels know no derivatives by them
            return None
        assert inputs.results is not None
        for i, u, new in zip(form.active, *inputs.results, strict=True):
            gs[i], own[i] = u, new
        state = State(state.step + 1, tx.memory_after(node)[0], spec.unflatten(own))
        return of_updates.unflatten(gs), state, node

    def _inputs(self, form: _Form, columns: list[list[Any]], state: State) -> StepInputs:
        ps, gs, slots = ([x[i] for i in form.active] for x in columns)
        now = number(state.step + 1)
        return StepInputs(
            tx=self._tx,
            buckets=[Bucket(self._tx, now, now - 1, state.memory)],
            bucket_of=[0] * len(form.active),
            ps=ps,
            gs=gs,
            slots=slots,
            negate=[False] * len(form.active),
            names=lambda: form.names,
            keys=lambda: form.keys,
            extra={},
            tensor_extra={},
            metadata_key=form,
            ranks=form.ranks,
            results=Results(
                [torch.empty_like(p, dtype=g.dtype) for p, g in zip(ps, gs, strict=True)],
                [map_slots(torch.empty_like, x) for x in slots],
            ),
        )


def _pays(ps: list[Any]) -> bool:
    """Whether kernels pay for these, as far as it has been measured: on a CPU."""
    tensors = [p for p in ps if isinstance(p, Tensor)]
    return are_large(tensors) and has_compiler() and all(p.device.type == "cpu" for p in tensors)


def _suits(
    tx: PerTensor,
    specs: tuple[tree.Spec[Any], ...],
    ps: list[Any],
    gs: list[Any],
    tensors: list[Any],
) -> bool:
    """Whether kernels may make the updates of these trees, which may not even belong together."""
    if specs[0] != specs[1] or not tx.is_per_tensor() or tx.takes_examples():
        return False
    pairs = [(p, g) for p, g in zip(ps, gs, strict=True) if g is not None]
    if not pairs or (len(pairs) < len(gs) and awaits(tx)):
        return False
    tensors = [x for x in tensors if x is not None]
    if any(not is_plain(x) or is_wrapped(x) for x in tensors):
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    return all(p is not None and p.shape == g.shape and _is_number(g) for p, g in pairs)


def _is_number(x: Tensor) -> bool:
    return x.layout is torch.strided and (x.is_floating_point() or x.is_complex())


def _requires_grad(x: Any) -> bool:
    """Whether autograd follows a tensor, or one in nested dicts, lists and tuples."""
    if isinstance(x, Tensor):
        return x.requires_grad
    parts = x.values() if isinstance(x, dict) else x
    return isinstance(x, (dict, list, tuple)) and any(map(_requires_grad, parts))


def _backend(inputs: StepInputs, option: str) -> TracedBackend | None:
    try:
        backend = TracedBackend(inputs, option)
    except Unsupported:
        return None
    return backend if backend.replays else None


pure.by_kernels = _update
