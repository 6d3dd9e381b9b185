"""Checkpointing: what can be computed again is not kept.

`torch.utils.checkpoint` saves by hooks, which `torch.func` refuses; this one works under `grad`,
`vmap` and autograd, and with functions that call `torch.func.grad` themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from .. import tree
from .._numerics.scalars import alive, forward_levels
from ..errors import StructureError
from ._closure_check import captured, refuse_traced
from ._surroundings import Surroundings


def remat(who: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, of trees of tensors, that keeps only its arguments for its derivative.

    The derivative computes it again, where `fn` meets what it met the first time: the same random
    numbers, autocast, and modes of modules. It must depend on nothing else that is
    differentiated by.
    """

    def call(*args: Any) -> Any:
        refuse_traced(who, fn)
        then = Surroundings.of(fn)
        leaves, spec = tree.flatten(args)
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        out_spec: list[tree.Spec[Any]] = []

        def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
            given = list(leaves)
            for i, x in zip(places, tensors, strict=True):
                given[i] = x
            found, outline = tree.flatten(fn(*spec.unflatten(given)))
            out_spec[:] = [outline]
            # A tensor handed through is no output of its own.
            return tuple(x.clone() if any(x is y for y in tensors) else x for x in found)

        tensors = [leaves[i] for i in places]
        found = _Remat.apply(who, flat, then, *tensors)  # type: ignore[no-untyped-call]
        return out_spec[0].unflatten(found)

    return call


class _Remat(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(who: str, fn: Callable[..., Any], then: Surroundings, *tensors: Tensor) -> Any:
        with torch.enable_grad():
            out = fn(*(x.detach() for x in tensors))
        if any(x.requires_grad for x in out):
            raise captured(who)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.fn, ctx.then, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.smooth = list(map(is_smooth, output))
        rough = [x for x, smooth in zip(output, ctx.smooth, strict=True) if not smooth]
        ctx.mark_non_differentiable(*rough)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        # What nothing depends on is left out: its zero must not meet a NaN.
        wanted = [g is not None and is_smooth(g) for g in grads]
        live, smooth = _smooth_part(ctx, wanted)
        tensors = list(map(alive, ctx.saved_tensors))
        if not any(wanted):
            return (None,) * (3 + len(tensors))
        asked = tuple(alive(g) for g, keep in zip(grads, wanted, strict=True) if keep)
        slopes = vjp(smooth, *(tensors[i] for i in live))[1](asked)
        found: list[Tensor | None] = [None] * len(tensors)
        for i, slope in zip(live, slopes, strict=True):
            found[i] = slope
        return (None, None, None, *found)

    @staticmethod
    def jvp(ctx: Any, *along: Any) -> Any:
        refuse_twice_forwards("unroll")
        live, smooth = _smooth_part(ctx, ctx.smooth)
        tensors, given = list(map(alive, ctx.saved_tensors)), along[3:]
        ways = [torch.zeros_like(tensors[i]) if given[i] is None else given[i] for i in live]
        made = iter(pusher(smooth, *(tensors[i] for i in live))(*ways))
        return tuple(next(made) if keep else None for keep in ctx.smooth)


def is_smooth(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _smooth_part(
    ctx: Any, keep: Sequence[bool]
) -> tuple[list[int], Callable[..., tuple[Tensor, ...]]]:
    """The places of the arguments that have derivatives, and the results to `keep`, of those."""
    tensors = list(map(alive, ctx.saved_tensors))
    live = [i for i, x in enumerate(tensors) if is_smooth(x)]

    def smooth(*chosen: Tensor) -> tuple[Tensor, ...]:
        given = list(tensors)
        for i, x in zip(live, chosen, strict=True):
            given[i] = x
        with ctx.then.again():
            out = ctx.fn(*given)
        return tuple(x for x, chosen in zip(out, keep, strict=True) if chosen)

    return live, smooth


def pusher(fn: Callable[..., tuple[Tensor, ...]], *at: Any) -> Callable[..., tuple[Tensor, ...]]:
    """What gives the derivative of `fn` along a way, at a point: by two pulls backwards.

    A push forwards inside of another, as in `torch.func.hessian`, would lack formulas.
    """
    made = vjp(fn, *at)
    pushed = vjp(made[1], tuple(map(torch.zeros_like, made[0])))[1]
    return lambda *way: pushed(way)[0]


def refuse_twice_forwards(who: str) -> None:
    """Refuses a derivative forwards of one forwards: torch leaves a part of it out, silently.

    Raises:
        StructureError: If it is one.
    """
    if forward_levels() > 1:
        raise StructureError(
            f"`{who}`: no derivative forwards of a derivative forwards can be taken. Take one of "
            "them backwards, as `torch.func.hessian` does: `jacfwd(jacrev(f))`."
        )
