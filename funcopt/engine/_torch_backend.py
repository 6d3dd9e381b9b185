"""The backend of torch's own fused kernels, for chains that are numerically identical to one.

A case of `_match` says which chain that is, and how the kernel is called. It is no part of the
mathematics: without it, every chain makes the same steps, to rounding.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import precision
from .._core.stage import Node
from .._numerics import shards
from .._numerics.scalars import is_plain, is_unset, number
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)
from . import triton
from ._blocks import as_real, same_memory_order
from ._guards import Unsupported
from ._step import MembersCache, StepInputs, eager_step

KernelCall = Callable[[], object]
"""A kernel with all of its arguments."""


class Batch(NamedTuple):
    """The tensors of one bucket, and the scalars of its step, stage by stage."""

    ps: list[Tensor]
    gs: list[Tensor]
    slots: list[list[Tensor]]  # column by column
    step: Any
    maximize: bool
    rows: Sequence[Mapping[str, Any]]
    clock: Tensor  # to write the step into

    def scalar(self, stage: int, name: str) -> Any:
        return _host_value(self.rows[stage][name])

    def is_first(self) -> bool:
        return bool(_host_value(self.step) == 1)

    def steps(self) -> list[Tensor]:
        """The clocks of all tensors, as torch keeps them."""
        return [self.clock.fill_(self.step)] * len(self.ps)


def _host_value(x: Any) -> Any:
    found = number(x)
    if isinstance(found, Tensor):
        raise Unsupported("a scalar that is on a device")
    return found


def _adam(kernel: Any, adam: int) -> Callable[[Batch], KernelCall]:
    """`adam` is the position of the stage `scale_by_adam`, before or after the decay."""

    def bind(batch: Batch) -> KernelCall:
        b1, b2 = batch.rows[adam]["betas"]
        means, squares, *greatest = batch.slots
        return functools.partial(
            kernel,
            batch.ps,
            batch.gs,
            means,
            squares,
            greatest[0] if greatest else [],
            batch.steps(),
            lr=batch.scalar(2, "lr"),
            beta1=_host_value(b1),
            beta2=_host_value(b2),
            weight_decay=batch.scalar(1 - adam, "weight_decay"),
            eps=batch.scalar(adam, "eps"),
            amsgrad=bool(greatest),
            maximize=batch.maximize,
        )

    return bind


def _sgd(nesterov: bool) -> Callable[[Batch], KernelCall]:
    def bind(batch: Batch) -> KernelCall:
        return functools.partial(
            torch._fused_sgd_,  # pyright: ignore[reportPrivateImportUsage]
            batch.ps,
            batch.gs,
            batch.slots[0] if batch.slots else [],
            weight_decay=batch.scalar(0, "weight_decay"),
            momentum=batch.scalar(1, "momentum"),
            lr=batch.scalar(2, "lr"),
            dampening=batch.scalar(1, "dampening"),
            nesterov=nesterov,
            maximize=batch.maximize,
            is_first_step=_begins(batch),
        )

    return bind


def _begins(batch: Batch) -> bool:
    """Whether nothing was added to the momentum yet, which matters where later it is dampened."""
    if not batch.slots or batch.scalar(1, "dampening") == 0:
        return batch.is_first()
    if any(x.device.type != "cpu" for x in batch.slots[0]):
        raise Unsupported("dampening, of momentum that has not been read")
    begins = {bool(is_unset(x.reshape(-1)[0])) for x in batch.slots[0] if x.numel()}
    if len(begins) > 1:
        raise Unsupported("momentum that begins for some tensors only")
    return True in begins


def _adagrad(batch: Batch) -> KernelCall:
    return functools.partial(
        torch._fused_adagrad_,  # pyright: ignore[reportPrivateImportUsage]
        batch.ps,
        batch.gs,
        batch.slots[0],
        batch.steps(),
        lr=batch.scalar(2, "lr"),
        lr_decay=batch.scalar(1, "lr_decay"),
        weight_decay=batch.scalar(0, "weight_decay"),
        eps=batch.scalar(1, "eps"),
        maximize=batch.maximize,
    )


def _match(tx: Any) -> Callable[[Batch], KernelCall] | None:
    """Binds the arguments of the kernel that is identical to `tx`; `None` if torch has none."""
    match tx.stages if type(tx) is chain else ():
        case (
            scale_by_adam(eps_root=0.0, nesterov=False, first_moment=True),
            add_decayed_weights(),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _adam(torch._fused_adamw_, 0)  # pyright: ignore[reportPrivateImportUsage]
        case (
            add_decayed_weights(),
            scale_by_adam(eps_root=0.0, nesterov=False, first_moment=True),
            scale_by_learning_rate(flip_sign=True),
        ):
            return _adam(torch._fused_adam_, 1)  # pyright: ignore[reportPrivateImportUsage]
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


class TorchBackend:
    """Makes steps by a kernel of torch, as long as the metadata of the tensors is the same.

    None of these chains has a reduction over tensors, so those that the kernel does not support
    are stepped eagerly.

    Raises:
        Unsupported: If there is no kernel for the chain, or no tensor that it can take.
    """

    def __init__(self, inputs: StepInputs, alone: bool = False) -> None:
        """With `alone`, other kernels make the step if they may and torch's cannot make all of it.

        On a GPU, an eager step is many launches for each tensor.
        """
        if _match(inputs.tx) is None:
            raise Unsupported("torch has no kernel for it")
        dtypes = _dtypes(inputs.tx)
        batches: dict[Any, list[int]] = {}
        self._eager: list[int] = []
        for i, key in enumerate(zip(inputs.bucket_of, inputs.negate, strict=True)):
            columns = _columns(inputs, i)
            if _is_supported(columns, dtypes):
                batches.setdefault((*key, columns[0].dtype, columns[0].device), []).append(i)
            else:
                self._eager.append(i)
        if not batches:
            raise Unsupported("torch's kernels are for plain tensors of one dtype and layout")
        others = {inputs.ps[i].device for i in self._eager}
        if alone and any(x.type != "cpu" and triton.is_available(x) for x in others):
            raise Unsupported("other kernels can take all of the tensors")
        self._batches = list(batches.values())
        self._any_sharded = any(map(shards.is_sharded, inputs.ps))
        self._columns_cache: Any = (None, None)
        self._members = MembersCache()
        firsts = [inputs.ps[indices[0]] for indices in self._batches]
        self._clocks = [torch.zeros((), device=p.device) for p in firsts]

    def step(self, inputs: StepInputs) -> Node:
        """Makes a step of tensors with the metadata of the first ones."""
        bind = _match(inputs.tx)
        if bind is None:  # with the hyperparameters of this step
            raise Unsupported("torch has no kernel for it")
        members, _ = self._members(inputs)
        node = inputs.tx.open(inputs.buckets, members)
        ready = []  # before anything is written: a scalar of the last batch may be on a device
        for k, indices in enumerate(self._batches):
            ps, slots, written = self._batch_columns(inputs, k)
            gs = [inputs.gs[i] for i in indices]
            gs = list(map(as_real, map(shards.part, gs) if self._any_sharded else gs))
            bucket, negate = inputs.bucket_of[indices[0]], inputs.negate[indices[0]]
            step = number(inputs.buckets[bucket].step)
            rows = [child.rows[bucket] for child in node.children]
            ready.append((bind(Batch(ps, gs, slots, step, negate, rows, self._clocks[k])), written))
        if self._eager:
            eager_step(inputs.subset(self._eager))
        for kernel_call, written in ready:
            kernel_call()
            # The kernels do not increase the versions of the tensors that they change.
            torch.autograd.graph.increment_version(written)
        if self._any_sharded:
            torch.autograd.graph.increment_version([p for p in inputs.ps if shards.is_sharded(p)])
        return node

    def _batch_columns(self, inputs: StepInputs, k: int) -> Any:
        """Parameters and slots of a batch, column by column, and all of them in one list."""
        if self._columns_cache[:2] != (id(inputs.ps), id(inputs.slots)):
            self._columns_cache = (id(inputs.ps), id(inputs.slots), inputs.ps, inputs.slots, {})
        kept = self._columns_cache[-1]
        if k not in kept:
            each = [_columns(inputs, i) for i in self._batches[k]]
            ps, _, *slots = (list(column) for column in zip(*each, strict=True))
            made = ps, slots, [x for column in (ps, *slots) for x in column]
            own = (inputs.ps[i] for i in self._batches[k])
            if self._any_sharded or any(x.is_complex() for x in own):
                return made  # views and parts, which do not follow `p.data = ...`
            kept[k] = made
        return kept[k]


def _columns(inputs: StepInputs, i: int) -> list[Tensor]:
    """Parameter, gradient and slots of one tensor: their parts here, complex ones as two reals."""
    every = (inputs.ps[i], inputs.gs[i], *precision.entries(inputs.slots[i]))
    return [as_real(shards.part(x)) for x in every]


DEVICES = frozenset({"cpu", "cuda"})
WIDE = frozenset({torch.float32, torch.float64})
NARROW = frozenset({torch.bfloat16, torch.float16})


def _dtypes(tx: Any) -> frozenset[torch.dtype]:
    """The dtypes in which the kernel rounds as the chain does: once, from at least float32.

    Those of SGD and Adagrad, on a CPU, also round in between.
    """
    is_adam = any(isinstance(stage, scale_by_adam) for stage in tx.stages)
    return WIDE | NARROW if is_adam else WIDE


def _is_supported(columns: Sequence[Tensor], dtypes: frozenset[torch.dtype]) -> bool:
    """Whether a kernel is right for it: one dtype, one order of memory, one device."""
    p = columns[0]
    return (
        p.dtype in dtypes
        and p.numel() > 0
        and all(map(is_plain, columns))
        and not any(x.is_neg() or x._is_zerotensor() for x in columns)
        and p.device.type in DEVICES
        and all((x.dtype, x.device, x.shape) == (p.dtype, p.device, p.shape) for x in columns)
        and same_memory_order(columns)
    )
