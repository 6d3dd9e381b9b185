"""Chains that torch has a kernel for: the same numbers, so the kernel makes the step.

A row of the table says which chain that is, and how the kernel is called. It is no part of the
mathematics: without the table, every chain makes the same steps, to rounding.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import precision
from .._core.stage import Node
from .._numerics.scalars import number
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)
from ._blocks import is_alike, real
from ._guards import Unsupported
from ._step import MembersCache, StepInputs, eager_step

Launch = Callable[[], object]
"""A kernel with its arguments, all of which have been found."""


class Batch(NamedTuple):
    """The tensors of one bucket, and the numbers of its step, stage by stage."""

    ps: list[Tensor]
    gs: list[Tensor]
    slots: list[list[Tensor]]  # column by column
    step: Any
    maximize: bool
    rows: Sequence[Mapping[str, Any]]
    clock: Tensor  # to write the step into

    def number(self, stage: int, name: str) -> Any:
        return _on_host(self.rows[stage][name])

    def is_first(self) -> bool:
        return bool(_on_host(self.step) == 1)

    def steps(self) -> list[Tensor]:
        """The clocks of all tensors, as torch keeps them."""
        return [self.clock.fill_(self.step)] * len(self.ps)


def _on_host(x: Any) -> Any:
    found = number(x)
    if isinstance(found, Tensor):
        raise Unsupported("a number that is on a device")
    return found


def _adam(kernel: Any, place: int) -> Callable[[Batch], Launch]:
    def call(batch: Batch) -> Launch:
        b1, b2 = batch.rows[place]["betas"]
        means, squares, *greatest = batch.slots
        return functools.partial(
            kernel,
            batch.ps,
            batch.gs,
            means,
            squares,
            greatest[0] if greatest else [],
            batch.steps(),
            lr=batch.number(2, "lr"),
            beta1=_on_host(b1),
            beta2=_on_host(b2),
            weight_decay=batch.number(1 - place, "weight_decay"),
            eps=batch.number(place, "eps"),
            amsgrad=bool(greatest),
            maximize=batch.maximize,
        )

    return call


def _sgd(nesterov: bool) -> Callable[[Batch], Launch]:
    def call(batch: Batch) -> Launch:
        return functools.partial(
            torch._fused_sgd_,
            batch.ps,
            batch.gs,
            batch.slots[0] if batch.slots else [],
            weight_decay=batch.number(0, "weight_decay"),
            momentum=batch.number(1, "momentum"),
            lr=batch.number(2, "lr"),
            dampening=batch.number(1, "dampening"),
            nesterov=nesterov,
            maximize=batch.maximize,
            is_first_step=batch.is_first(),
        )

    return call


def _adagrad(batch: Batch) -> Launch:
    return functools.partial(
        torch._fused_adagrad_,
        batch.ps,
        batch.gs,
        batch.slots[0],
        batch.steps(),
        lr=batch.number(2, "lr"),
        lr_decay=batch.number(1, "lr_decay"),
        weight_decay=batch.number(0, "weight_decay"),
        eps=batch.number(1, "eps"),
        maximize=batch.maximize,
    )


def _found(tx: Any) -> Callable[[Batch], Launch] | None:
    """What makes ready the kernel that does what `tx` does."""
    match tx.stages if type(tx) is chain else ():
        case (
            scale_by_adam(eps_root=0.0, nesterov=False),
            add_decayed_weights(),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _adam(torch._fused_adamw_, 0)
        case (
            add_decayed_weights(),
            scale_by_adam(eps_root=0.0, nesterov=False),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _adam(torch._fused_adam_, 1)
        case (
            add_decayed_weights(),
            trace(nesterov=nesterov),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _sgd(nesterov)
        case (
            add_decayed_weights(),
            scale_by_adagrad(eps_in_sqrt=False),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _adagrad
    return None


class TorchKernel:
    """Steps by a kernel of torch, for as long as the tensors keep their form.

    None of these chains has a sum over tensors, so those that the kernel would get wrong are worked
    on one by one, beside the others.

    Raises:
        Unsupported: If there is no kernel for the chain, or no tensor that it can take.
    """

    def __init__(self, inputs: StepInputs) -> None:
        if _found(inputs.tx) is None:
            raise Unsupported("torch has no kernel for it")
        batches: dict[Any, list[int]] = {}
        self._others: list[int] = []
        for i, key in enumerate(zip(inputs.bucket_of, inputs.negate, strict=True)):
            columns = _columns(inputs, i)
            if _can_be_taken(columns):
                batches.setdefault((*key, columns[0].dtype, columns[0].device), []).append(i)
            else:
                self._others.append(i)
        if not batches:
            raise Unsupported("torch's kernels are for plain tensors of one dtype and layout")
        self._batches = list(batches.values())
        self._known: Any = (None, None)
        self._members = MembersCache()
        firsts = [inputs.ps[chosen[0]] for chosen in self._batches]
        self._clocks = [torch.zeros((), device=p.device) for p in firsts]

    def step(self, inputs: StepInputs) -> Node:
        """Makes the step; the metadata is that of the first one."""
        call = _found(inputs.tx)
        if call is None:  # a number is another now
            raise Unsupported("torch has no kernel for it")
        members, _ = self._members(inputs)
        node = inputs.tx.open(inputs.buckets, members)
        ready = []  # before anything is written: a number of the last one may be none to look at
        for k, chosen in enumerate(self._batches):
            ps, slots, written = self._columns_of(inputs, k)
            gs = [real(inputs.gs[i]) for i in chosen]
            bucket, flip = inputs.bucket_of[chosen[0]], inputs.negate[chosen[0]]
            step = number(inputs.buckets[bucket].step)
            rows = [child.rows[bucket] for child in node.children]
            ready.append((call(Batch(ps, gs, slots, step, flip, rows, self._clocks[k])), written))
        if self._others:
            eager_step(inputs.subset(self._others))
        for launch, written in ready:
            launch()
            # The kernels do not tell autograd what they have changed.
            torch.autograd.graph.increment_version(written)
        return node

    def _columns_of(self, inputs: StepInputs, k: int) -> Any:
        """Parameters and slots of a batch, column by column, and all of them in one list."""
        if self._known[:2] != (id(inputs.ps), id(inputs.slots)):
            self._known = (id(inputs.ps), id(inputs.slots), inputs.ps, inputs.slots, {})
        kept = self._known[-1]
        if k not in kept:
            each = [_columns(inputs, i) for i in self._batches[k]]
            ps, _, *slots = (list(column) for column in zip(*each, strict=True))
            made = ps, slots, [x for column in (ps, *slots) for x in column]
            if any(x.is_complex() for x in (inputs.ps[i] for i in self._batches[k])):
                return made  # views, which do not follow `p.data = ...`
            kept[k] = made
        return kept[k]


def _columns(inputs: StepInputs, i: int) -> list[Tensor]:
    """Parameter, gradient and slots of one tensor, complex ones as two reals."""
    return [real(x) for x in (inputs.ps[i], inputs.gs[i], *precision.entries(inputs.slots[i]))]


def _can_be_taken(columns: Sequence[Tensor]) -> bool:
    """Whether a kernel gets it right: all of one dtype, in memory in one order, on one device."""
    p = columns[0]
    return (
        p.dtype in (torch.float32, torch.float64)
        and p.numel() > 0
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in columns)
        and p.device.type in ("cpu", "cuda")
        and all((x.dtype, x.device, x.shape) == (p.dtype, p.device, p.shape) for x in columns)
        and is_alike(columns)
    )
