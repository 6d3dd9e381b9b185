"""Steps in place, without an optimizer around them."""

import contextlib
from typing import Any, NamedTuple

import torch

import funcopt as fo
from funcopt import tree
from funcopt._core import pure
from funcopt._core.ranks import Ranks
from funcopt._core.stage import Bucket
from funcopt.engine import Engine, StepInputs, _kernels

SHAPES = {"a": (3, 4), "b": (), "c": (7,), "d": (0, 3), "e": (5, 2), "f": (1,)}


def parameters(dtype=torch.float64, shapes=SHAPES):
    return {
        name: torch.linspace(-1.0, 1.3, max(torch.Size(shape).numel(), 1), dtype=dtype)[
            : torch.Size(shape).numel()
        ].reshape(shape)
        + i / 7
        for i, (name, shape) in enumerate(shapes.items())
    }


def gradients(params, t):
    """They depend on the parameters, and change from step to step."""
    return {
        name: (0.3 * p.double() + torch.arange(p.numel()).reshape(p.shape).add(t + i).sin()).to(
            p.dtype
        )
        for i, (name, p) in enumerate(params.items())
    }


class Run:
    """Parameters that an engine steps in place."""

    def __init__(self, tx, how, params, extra=None):
        self.tx, self.params, self.extra = tx, params, extra or {}
        self.engine = Engine(how)
        self.state = tx.init(params)
        self.t = 0
        self._form = object()
        self._ps = list(params.values())
        _, spec = tree.flatten(params)
        self._slots = spec.flatten_up_to(self.state.slots)
        self._memory = self.state.memory

    def step(self, grads=None):
        grads = gradients(self.params, self.t) if grads is None else grads
        tx, names = self.tx, list(self.params)
        inputs = StepInputs(
            tx=tx,
            buckets=[Bucket(tx, self.t + 1, self.t, self._memory)],
            bucket_of=[0] * len(names),
            ps=self._ps,
            gs=list(grads.values()),
            slots=self._slots,
            negate=[False] * len(names),
            names=lambda: names,
            keys=lambda: names,
            extra=self.extra,
            tensor_extra={},
            metadata_key=self._form,
            ranks=Ranks(()),
        )
        with torch.no_grad():
            node = self.engine.step(inputs)
        self._memory = tx.memory_after(node)[0]
        self.t += 1
        return node

    def tensors(self):
        return [*self._ps, *tree.leaves(self._slots), *tree.leaves(self._memory)]


def units(ours, theirs, dtype):
    """The largest difference, in units in the last place of the largest entry of each tensor.

    Of shared scalars, which are 0-d, in those of 1 at least: a variance of norms is the square of a
    difference between numbers that are nearly the same.
    """
    worst = 0.0
    for x, y in zip(ours, theirs, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if x.numel() and x.is_floating_point():
            size = y.double().abs().max().clamp(min=1e-12 if x.dim() else 1.0)
            eps = max(torch.finfo(x.dtype).eps, torch.finfo(dtype).eps)
            worst = max(worst, ((x.double() - y.double()).abs().max() / size).item() / eps)
    return worst


def gap(one, other):
    """The largest difference between two lists of tensors."""
    assert [x.shape for x in one] == [y.shape for y in other]
    assert [x.dtype for x in one] == [y.dtype for y in other]
    pairs = [(x, y) for x, y in zip(one, other, strict=True) if x.numel()]
    wide = [(x.to(torch.complex128), y.to(torch.complex128)) for x, y in pairs]
    return max((x - y).abs().max().item() for x, y in wide)


class Kinds(NamedTuple):
    mean: torch.Tensor
    kind: torch.Tensor


class by_kind(fo.TensorRule):
    """Its slots hold whole numbers, which it only reads."""

    stored: Any = torch.int64
    elementwise = True

    def init_tensor(self, p):
        return Kinds(torch.zeros_like(p), (p > 0).to(self.stored))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(slots.mean, g, 0.1)
        return torch.where(slots.kind == 1, mean, -mean), slots._replace(mean=mean)


@contextlib.contextmanager
def watched(engine="fused"):
    """Whether each update in the context is made by kernels, in order."""
    found, known = [], pure.fused_update

    def update(*given):
        made = known(*given)
        found.append(made is not None)
        return made

    pure.fused_update = update
    try:
        with fo.pure_engine(engine):
            yield found
    finally:
        pure.fused_update = known


def lowered_graphs(monkeypatch, tx, dtype=torch.float32, extra=None):
    """The lowered graphs of a chain, which are interpreted."""
    found, known = [], _kernels.kernel_for

    def kept(lowered, *where):
        found.append(lowered)
        return known(lowered, *where)

    with monkeypatch.context() as patch:
        patch.setenv("FUNCOPT_KERNELS", "interpreted")
        patch.setattr("funcopt.engine._tracer.kernel_for", kept)
        Run(tx, "fused", parameters(dtype), extra).step()
    return found


def on_two_threads(tx):
    """What three steps of large tensors come to, operation by operation and by kernels."""
    shapes = {"large": (300, 701), "rest": (40000,), "small": (3,)}
    runs = [Run(tx, how, parameters(torch.float32, shapes)) for how in ("eager", "fused")]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(3):
            for run in runs:
                run.step()
    finally:
        torch.set_num_threads(before)
    return [run.tensors() for run in runs]


class Softened(NamedTuple):
    mean: torch.Tensor


class softened(fo.TensorRule):
    """A rule of somebody else, who knows nothing of kernels."""

    decay: fo.Scalar = 0.9
    elementwise = True

    def init_tensor(self, p):
        return Softened(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean = torch.lerp(g, slots.mean, s.decay)
        return torch.tanh(mean) / (mean.abs().sqrt() + 1e-3) + torch.exp(-g * g), Softened(mean)
