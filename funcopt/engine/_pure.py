"""The pure form at the speed of memory: updates and new slots are written once, into fresh memory.

What an update works on is read once, and stays as it is. `GradientTransformation.update` comes here
first; where this is not the way to make it, it goes on operation by operation.
"""

import copy
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import tree
from .._core import pure
from .._core.due import awaits
from .._core.record import Record
from .._core.stage import Node, State
from .._core.tensor_rule import PerTensor
from .._numerics.scalars import is_mapped, is_plain, is_wrapped
from ..errors import StructureError
from ._guards import GuardFailed, Unsupported
from ._kernels import has_machine
from ._options import chosen_for_updates
from ._ready_update import ReadyUpdate
from ._step import Results, StepInputs, flatten_nodes
from ._structure import same_structure
from ._traced_backend import TracedBackend
from ._trees import CheckedTrees

log = logging.getLogger("funcopt")

REPEATED = 2
"""How many updates come before one that repeats them."""

Columns = Sequence[Sequence[Any]]

How = tuple[str, bool]
"""The engine of an update, and whether it is applied."""

MAX_KEPT = 4
"""How much is kept, the latest first, for what comes in turns: trees of a transformation, and
transformations that are gone."""


def fused_update(
    tx: PerTensor,
    updates: Any,
    state: State,
    params: Any,
    extra: Mapping[str, Any],
    applies: bool = False,
) -> tuple[Any, State, Node] | None:
    """The update by kernels; `None` if it is to be made operation by operation.

    If it `applies` them, the sums of parameters and updates come in their place.
    """
    option = chosen_for_updates()
    if option in ("eager", "torch") or params is None or extra or is_watched():
        return None
    own, cached = _cache.find(tx)
    return cached.update(own, updates, state, params, (option, applies))


class _Cache(threading.local):
    """What was found for transformations, for each thread its own."""

    def __init__(self) -> None:
        # Of those that are alive, by `id`: the reference, a copy, and what was found.
        self.alive: dict[int, tuple[weakref.ref[PerTensor], PerTensor, _CachedUpdate]] = {}
        self._latest: list[_CachedUpdate] = []  # of numbers and words, which keep nothing alive

    def find(self, tx: PerTensor) -> tuple[PerTensor, "_CachedUpdate"]:
        """A copy of `tx`, which lives no longer for it, and what is known of its updates."""
        alive, key = self.alive, id(tx)
        found = alive.get(key)
        if found is None or found[0]() is not tx:
            own = copy.copy(tx)
            gone = weakref.ref(tx, lambda _: alive.pop(key, None))
            found = alive[key] = (gone, own, self._cached_for(own))
        return found[1:]

    def _cached_for(self, tx: PerTensor) -> "_CachedUpdate":
        """A new one; or that of the latest like it, if it is made again for every update."""
        if not _is_plain_value(tx):
            return _CachedUpdate(tx)
        like = (x for x in self._latest if same_structure(x.tx, tx))
        cached = next(like, None) or _CachedUpdate(tx)
        others = [x for x in self._latest if x is not cached]
        self._latest = [cached, *others[: MAX_KEPT - 1]]
        return cached


_cache = _Cache()


class _CachedUpdate:
    """The updates of transformations of one structure: what was found for the first is used again.

    Numbers are read in every update, from the transformation that it is of.
    """

    def __init__(self, tx: PerTensor) -> None:
        self.tx = tx  # the first
        self._known: list[_Known] = []  # the latest first

    def update(
        self, tx: PerTensor, updates: Any, state: State, params: Any, how: How
    ) -> tuple[Any, State, Node] | None:
        """The update, if kernels make it."""
        for one in self._known:
            made = one.repeated(tx, how, updates, state, params)
            if made is not None:
                return made
        ps, spec = tree.flatten(params)
        gs, of_updates = tree.flatten(updates)
        flat, of_slots = tree.flatten(state.slots)
        try:
            slots = spec.flatten_up_to(state.slots)
        except StructureError:  # which says more where it is made operation by operation
            return None
        if spec != of_updates:
            return None
        active = [i for i, g in enumerate(gs) if g is not None]
        columns = [ps, gs, slots]
        if len(active) < len(gs):
            columns = [[x[i] for i in active] for x in columns]
        tensors = [*columns[0], *columns[1], *flat, *tree.leaves(state.memory)]
        found = ((spec, of_slots), active, tensors)
        known = self._find(how, *found)
        if known is None:
            fits = how[0] != "auto" or _are_fast(columns[0])
            fits = fits and not (len(active) < len(gs) and awaits(tx))
            fits = fits and _are_supported(tx, columns[0], columns[1], tensors)
            known = _Known(how, CheckedTrees.of(params, slots, *found), fits)
            known.requires_grad = fits and _requires_grad(tensors)
            self._known = [known, *self._known[: MAX_KEPT - 1]]
        if not known.are_supported or (known.requires_grad and torch.is_grad_enabled()):
            return None
        positions = known.trees.positions
        entries = [flat[at] for at in positions]
        exact, applies = tx.exact_updates, how[1]
        results = Results.fresh(columns[0], columns[1], entries, exact, applies)
        step = state.step + 1
        try:
            trees = params, updates, state
            node = known.step(trees, tx, columns, step, entries, results)
        except Unsupported as reason:
            known.are_supported = False
            _say("updates of %s are made operation by operation: %s", type(tx).__name__, reason)
            return None
        if torch.is_grad_enabled() and any(map(_scalars_require_grad, flatten_nodes(node))):
            known.requires_grad = True
            return None
        gs = ps if applies else gs
        for i, u in zip(active, results.us, strict=True):
            gs[i] = u
        for at, new in zip(positions, results.entries, strict=True):
            flat[at] = new
        state = State(step, tx.memory_after(node)[0], of_slots.unflatten(flat))
        return of_updates.unflatten(gs), state, node

    def _find(self, *found: Any) -> "_Known | None":
        """What is known of these trees, which are the latest then."""
        for at, known in enumerate(self._known):
            if known.holds(*found):
                if at:
                    self._known.insert(0, self._known.pop(at))
                return known
        return None


class _Known:
    """What is known of trees that were seen before, and the kernels that make their updates."""

    def __init__(self, how: How, trees: CheckedTrees, are_supported: bool) -> None:
        self._how, self.trees = how, trees
        self.are_supported = are_supported
        self.requires_grad = False  # of a tensor, or of a scalar in some update
        self._backend: TracedBackend | None = None
        self._ready: ReadyUpdate | None = None
        self._made = 0  # updates in turn, without those that repeat one
        self._made_by: PerTensor | None = None
        self._patience = REPEATED  # how many of them come before one that repeats them

    def holds(self, how: How, *found: Any) -> bool:
        """Whether it is known of these trees."""
        return self._how == how and self.trees.holds(*found)

    def step(
        self, trees: Sequence[Any], tx: PerTensor, columns: Columns, step: Tensor, *made: Any
    ) -> Node:
        """Makes the update by kernels.

        Args:
            trees: Parameters, gradients and state.
            tx: The transformation.
            columns: Leaves of parameters and gradients, and slots: those with a gradient.
            step: The number of the update.
            *made: The entries of all slots, and where results are written.

        Raises:
            Unsupported: If none can.
        """
        inputs = self.trees.inputs(tx, columns, step, trees[-1].memory, {}, *made)
        if self._backend is None:
            backend = TracedBackend(inputs, self._how[0])
            if not backend.replays:
                raise Unsupported("some of it has to be traced again in every step")
            self._backend = backend
        node = self._backend.step(inputs)
        self._made = self._made + 1 if tx is self._made_by else 1
        self._made_by = tx
        is_ready = self._ready is not None and self._ready.tx is tx
        if self._made > self._patience and not is_ready:
            self._made, self._ready = 0, self._ready_for(inputs, node, trees)
            if self._ready is None:
                self._patience *= 2
        return node

    def _ready_for(self, inputs: StepInputs, node: Node, trees: Any) -> ReadyUpdate | None:
        """The next update, if it can be told now."""
        if not self.trees.are_whole or inputs.results is None or self._backend is None:
            return None
        try:
            return ReadyUpdate(self._backend, inputs, inputs.results, node, trees)
        except Unsupported as reason:
            log.debug("updates of %s do not get ready: %s", type(inputs.tx).__name__, reason)
            return None

    def repeated(
        self, tx: PerTensor, how: How, updates: Any, state: State, params: Any
    ) -> tuple[Any, State, Node] | None:
        """The update of these trees, if it is ready and like the one before; else `None`."""
        ready = self._ready
        if ready is None or ready.tx is not tx or self._how != how:
            return None
        if self.requires_grad and torch.is_grad_enabled():
            return None
        try:
            return ready(updates, state, params)
        except GuardFailed:  # as where it decides as no update before
            self._ready, self._made, self._patience = None, 0, 2 * self._patience
            return None


def is_watched() -> bool:
    """Whether something follows all operations that are made here."""
    if is_mapped() or torch._C._len_torch_dispatch_stack():
        return True
    if torch._C._get_tracing_state() is not None:  # of `torch.jit.trace`
        return True
    if forward_ad._current_level >= 0:  # a dual tensor looks like any other
        return True
    count = torch._C._len_torch_function_stack()
    if not count:
        return False
    from torch.utils._device import DeviceContext  # a default device, which follows nothing

    modes = map(torch._C._get_function_stack_at, range(count))
    return any(type(mode) is not DeviceContext for mode in modes)


def _are_fast(ps: Sequence[Any]) -> bool:
    """Whether kernels are faster for these, as far as it has been measured: on a CPU."""
    return has_machine() and all(p.device.type == "cpu" for p in ps if isinstance(p, Tensor))


def _are_supported(
    tx: PerTensor, ps: Sequence[Any], gs: Sequence[Any], tensors: Sequence[Any]
) -> bool:
    """Whether kernels may make the updates of these, which may not even belong together."""
    if not ps or not tx.is_per_tensor() or tx.takes_examples():
        return False
    if any(x is not None and (not is_plain(x) or is_wrapped(x)) for x in tensors):
        return False
    pairs = zip(ps, gs, strict=True)
    return all(p is not None and _belongs_to(g, p) for p, g in pairs)


def _belongs_to(g: Tensor, p: Tensor) -> bool:
    same = g.shape == p.shape and g.is_complex() == p.is_complex()
    return same and all(
        x.layout is torch.strided and (x.is_floating_point() or x.is_complex()) for x in (g, p)
    )


def _requires_grad(x: Any) -> bool:
    """Whether autograd follows a tensor, or one in nested dicts, lists and tuples."""
    if isinstance(x, Tensor):
        return x.requires_grad
    parts = x.values() if isinstance(x, dict) else x
    return isinstance(x, (dict, list, tuple)) and any(map(_requires_grad, parts))


def _scalars_require_grad(node: Node) -> bool:
    """Whether autograd follows a scalar or the memory of a stage."""
    found = [x for row in node.rows for x in row.values() if type(x) is not float]
    found += [x for x in node.memory if x != ()]
    return bool(found) and _requires_grad(found)


def _is_plain_value(x: Any) -> bool:
    """Whether it is made of numbers and words: nothing else is alive as long as it is."""
    if isinstance(x, Record):
        x = vars(x)
    if isinstance(x, (dict, list, tuple)):
        return all(map(_is_plain_value, x.values() if isinstance(x, dict) else x))
    return x is None or isinstance(x, (int, float, str, torch.dtype))


_said: set[str] = set()


def _say(*line: Any) -> None:
    """Writes a line to the log, once in a process."""
    if (said := str(line)) not in _said:
        _said.add(said)
        log.info(*line)


pure.fused_update = fused_update
