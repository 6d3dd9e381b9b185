"""A derivative of exactly zero stays zero on its way back through a function.

A step that was left out, or a try of a line search that was not taken, is multiplied by zero in
derivatives where `torch.func.vmap` hides what was chosen. If the loss was not finite there, its own
derivative is not either, and zero times NaN is NaN. So the zero is noticed where it enters the
function backwards, and put in the place of what is not finite where it leaves.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import tree
from .._numerics.scalars import is_mapped, is_wrapped, moved


def exact_zero(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, of trees of tensors, with that property; where nothing is differentiated, just `fn`.

    It holds for the arguments, in each run that is mapped over by one of them; what `fn` closes
    over is its own business.
    """

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or not _followed(args):
            return fn(*args)
        gate = _Gate()
        found = fn(*_through(_Entry, gate, args))
        return _through(_Exit, gate, found)

    return call


def _followed(args: Any) -> bool:
    """Whether a derivative may be taken of it backwards, and none forwards, which needs no gate."""
    if not torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return False
    return is_mapped() or any(isinstance(x, Tensor) and x.requires_grad for x in tree.leaves(args))


class _Gate:
    """What both ends of a function share during one way back."""

    dead: Any = None  # whether all that came in was zero, for each run


def _through(end: Any, gate: _Gate, values: Any) -> Any:
    leaves, spec = tree.flatten(values)
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and _has_part(x)]
    if places:
        made = end.apply(gate, 0, *(leaves[i] for i in places))
        for i, x in zip(places, made, strict=True):
            leaves[i] = x
    return spec.unflatten(leaves)


def _has_part(x: Tensor) -> bool:
    """Whether it may have a derivative, or tells runs apart. What has none passes as it is."""
    return (x.is_floating_point() or x.is_complex()) and (x.requires_grad or is_wrapped(x))


class _End(torch.autograd.Function):
    """The identity. `lanes` dimensions in front are runs that are mapped over."""

    @staticmethod
    def forward(gate: _Gate, lanes: int, *xs: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in xs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.gate, ctx.lanes = inputs[:2]
        pairs = zip(inputs[2:], output, strict=True)
        ctx.mark_non_differentiable(*(y for x, y in pairs if not x.requires_grad))

    @classmethod
    def _mapped(cls, info: Any, in_dims: Any, gate: _Gate, lanes: int, xs: Any) -> Any:
        each = zip(xs, in_dims[2:], strict=True)
        moved = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in each
        ]
        out = cls.apply(gate, lanes + 1, *moved)  # type: ignore[no-untyped-call]
        return out, (0,) * len(xs)


class _Exit(_End):
    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        some = [(g != 0).reshape((*g.shape[: ctx.lanes], -1)).any(-1) for g in slopes]
        ctx.gate.dead = torch.stack(some).any(0).logical_not()
        return (None, None, *slopes)

    @staticmethod
    def vmap(info: Any, in_dims: Any, gate: _Gate, lanes: int, *xs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Exit._mapped(info, in_dims, gate, lanes, xs)


class _Entry(_End):
    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        dead = ctx.gate.dead
        if dead is None:
            return (None, None, *slopes)
        if dead.dim() != ctx.lanes:  # runs that share this share what is zero
            dead = dead.all()
        # What is finite is right already, and stays: it may be differentiated again.
        masks = (_like(dead, g) & g.isfinite().logical_not() for g in slopes)
        each = zip(masks, slopes, strict=True)
        return (None, None, *(torch.where(mask, 0.0, g) for mask, g in each))

    @staticmethod
    def vmap(info: Any, in_dims: Any, gate: _Gate, lanes: int, *xs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Entry._mapped(info, in_dims, gate, lanes, xs)


def _like(flag: Tensor, x: Tensor) -> Tensor:
    """A flag for each run, for the entries of `x`."""
    return moved(flag, x.device).reshape((*flag.shape, *[1] * (x.dim() - flag.dim())))
