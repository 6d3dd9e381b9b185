"""`apply_updates` of trees that are like those before: two calls for the trees, and one kernel."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import pure
from .._core.functions import identity
from .._numerics.scalars import is_plain
from ._guards import Unsupported
from ._kernels import has_machine
from ._known_trees import KnownTrees
from ._memory_numbers import MemoryNumbers
from ._options import chosen_for_updates
from ._pure import MAX_KEPT, REPEATED, is_watched
from ._step import Results
from ._traced_backend import TracedBackend
from ._trees import CheckedTrees


def fused_sum(params: Any, updates: Any) -> Any:
    """The sums, in a tree like `params`; `None` if they are to be made one by one."""
    if chosen_for_updates() in ("eager", "torch") or is_watched():
        return None
    for one in _sums.ready:
        if (made := one(params, updates)) is not None:
            return made
    return _sums.made(params, updates)


class _Metadata(NamedTuple):
    """What sums have in common that are made by one kernel."""

    spec: tree.Spec[Any]
    of_params: list[Any]
    of_updates: list[Any]


class _Sums(threading.local):
    """Those that are ready, and those that may get ready, for each thread its own."""

    def __init__(self) -> None:
        self.ready: list[_ReadySum] = []  # the latest first
        self._seen: list[tuple[_Metadata, int]] = []  # and how often

    def made(self, params: Any, updates: Any) -> Any:
        """The sums, if they have been made often enough to get ready."""
        (ps, spec), (us, other) = tree.flatten(params), tree.flatten(updates)
        if spec != other or not all(map(_is_sum, ps, us)):
            return None
        metadata = _Metadata(spec, list(map(_metadata, ps)), list(map(_metadata, us)))
        count = 1 + next((count for seen, count in self._seen if seen == metadata), 0)
        others = [x for x in self._seen if x[0] != metadata]
        self._seen = [(metadata, count), *others[: MAX_KEPT - 1]]
        if count != REPEATED or not has_machine():
            return None
        try:
            one = _ReadySum(params, updates, ps, us)
        except Unsupported:
            return None
        self.ready = [one, *self.ready[: MAX_KEPT - 1]]
        return one(params, updates)


class _ReadySum:
    """Sums of tensors like these."""

    def __init__(
        self, params: Any, updates: Any, ps: Sequence[Tensor], us: Sequence[Tensor]
    ) -> None:
        count, tx = len(ps), identity()
        slots, spec = [()] * count, tree.flatten(params)[1]
        trees = CheckedTrees.of(params, slots, (spec, spec), list(range(count)), [*ps, *us])
        results = Results.fresh(ps, us, (), are_applied=True)
        first = torch.ones((), dtype=torch.int64, device="cpu")
        inputs = trees.inputs(tx, (ps, us, slots), first, (), {}, (), results)
        backend = TracedBackend(inputs, "fused")
        backend.step(inputs)  # which is traced
        node = backend.step(inputs)
        self._kernels = backend.ready(node, inputs.buckets, MemoryNumbers())
        if not self._kernels.is_settled:
            raise Unsupported("sums that are not settled")
        where = spec.unflatten(range(2 * count, 3 * count))
        self._trees = KnownTrees((params, updates), results.us, where)
        self._trees.pass_on_to(self._kernels.places())

    def __call__(self, params: Any, updates: Any) -> Any:
        """The sums, or `None` if these trees are others."""
        found = self._trees.take((params, updates))
        if found is None:
            return None
        self._kernels.repeat(1)
        return self._trees.give(found)


def _is_sum(p: Any, u: Any) -> bool:
    """Whether a kernel makes the sum as torch does."""
    if type(u) is not Tensor or not is_plain(p) or p.shape != u.shape or p.dtype is not u.dtype:
        return False
    on_cpu = p.device.type == u.device.type == "cpu" and p.layout is u.layout is torch.strided
    return on_cpu and p.is_floating_point() and not (p.requires_grad or u.requires_grad)


def _metadata(x: Tensor) -> Any:
    return x.shape, x.stride(), x.dtype


_sums = _Sums()

pure.fused_sum = fused_sum
