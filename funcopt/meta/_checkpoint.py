"""Forgetting what can be computed again.

`torch.utils.checkpoint` saves by hooks, which `torch.func` refuses; this one works under `grad`,
`vmap` and autograd alike, and with functions that call `torch.func.grad` themselves.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from .. import tree
from ._closure_check import captured, refuse_traced


def remat(who: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, of trees of tensors, that keeps only its arguments for its derivative.

    The derivative computes it again. `fn` must depend on nothing else that is differentiated by.
    """

    def call(*args: Any) -> Any:
        refuse_traced(who, fn)
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
        found = _Remat.apply(who, flat, *tensors)  # type: ignore[no-untyped-call]
        return out_spec[0].unflatten(found)

    return call


class _Remat(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(who: str, fn: Callable[..., Any], *tensors: Tensor) -> Any:
        with torch.enable_grad():
            out = fn(*(x.detach() for x in tensors))
        if any(x.requires_grad for x in out):
            raise captured(who)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.fn, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.smooth = [x.is_floating_point() or x.is_complex() for x in output]
        rough = [x for x, smooth in zip(output, ctx.smooth, strict=True) if not smooth]
        ctx.mark_non_differentiable(*rough)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        tensors = list(ctx.saved_tensors)
        live = [i for i, x in enumerate(tensors) if x.is_floating_point() or x.is_complex()]

        def smooth(*chosen: Tensor) -> tuple[Tensor, ...]:
            given = list(tensors)
            for i, x in zip(live, chosen, strict=True):
                given[i] = x
            out = ctx.fn(*given)
            return tuple(x for x, keep in zip(out, ctx.smooth, strict=True) if keep)

        pull = vjp(smooth, *(tensors[i] for i in live))[1]
        slopes = pull(tuple(g for g, keep in zip(grads, ctx.smooth, strict=True) if keep))
        found: list[Tensor | None] = [None] * len(tensors)
        for i, slope in zip(live, slopes, strict=True):
            found[i] = slope
        return (None, None, *found)
