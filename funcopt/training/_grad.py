"""The derivative of one function, with no more history than needed, and no detour."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from .. import tree
from .._core.dependence import independent, is_followed
from .._numerics.scalars import is_mapped, is_wrapped


def slopes(fn: Callable[..., tuple[Tensor, Any]], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """The derivatives of ``fn(*args)[0]`` by the trees `args`, and what `fn` returned.

    Where that is known, the derivative is `None` for what the value does not depend on.

    `torch.func.grad` always keeps the graph of the derivative itself, to differentiate again; what
    `remat` saves would be lost. So autograd is used, which does not, except where that may be
    needed: inside `torch.func`, or where `args` require grad.
    """
    leaves, spec = tree.flatten(args)
    watched = (is_wrapped(x) or x.requires_grad for x in leaves if x is not None)
    if torch.compiler.is_compiling() or any(watched):
        return live_slopes(fn, args)
    live = [x if x is None or _rough(x) else x.detach().requires_grad_() for x in leaves]
    with torch.enable_grad():
        value, aux = fn(*spec.unflatten(live))
    chosen = [x for x in live if x is not None and x.requires_grad]
    by: Iterator[Any] = iter(())
    if chosen and value.requires_grad:
        by = iter(torch.autograd.grad(value, chosen, allow_unused=True))
    aux = tree.map(Tensor.detach, aux)
    found = [next(by, None) if x is not None and x.requires_grad else None for x in live]
    return spec.unflatten(found), (value.detach(), aux)


def live_slopes(
    fn: Callable[..., tuple[Tensor, Any]],
    args: tuple[Any, ...],
    who: str | None = None,
) -> tuple[Any, Any]:
    """The same, to be differentiated again, by `args` or by whatever `fn` has closed over.

    With the name of what was called, `who`, a value that depends on none of `args` is an error: the
    derivative would be zero.

    In `torch.func` every operation passes through one level more, which for small tensors takes
    twice the time. Where autograd follows all of `args` anyway, the level would bring nothing.
    """
    leaves, spec = tree.flatten(args)
    followed = leaves and all(map(_followed, leaves))
    if followed and not torch.compiler.is_compiling() and not is_mapped():
        mine = [x.view_as(x) for x in leaves]  # not what else may have been made of the same
        value, aux = fn(*spec.unflatten(mine))
        if isinstance(value, Tensor) and value.dim() == 0 and value.requires_grad:
            by = torch.autograd.grad(value, mine, create_graph=True, allow_unused=True)
            if who is not None and all(g is None for g in by):
                raise independent(who, "the loss")
            each = zip(mine, by, strict=True)
            found = [torch.zeros_like(x, requires_grad=True) if g is None else g for x, g in each]
            return spec.unflatten(found), (value, aux)

    def watched(*args: Any) -> tuple[Tensor, Any]:
        value, aux = fn(*args)
        checked = who is not None and isinstance(value, Tensor)
        if checked and not is_followed(value, tree.leaves(args)):
            raise independent(who, "the loss")
        return value, aux

    # This also says what is wrong with a value.
    return grad_and_value(watched, argnums=tuple(range(len(args))), has_aux=True)(*args)


def _followed(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()


def _rough(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex())
