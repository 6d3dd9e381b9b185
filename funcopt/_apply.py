"""What is done with updates and with state, once a transformation has made them."""

from typing import Any

import torch
from torch import Tensor

from . import tree
from ._typing import Params, State, Updates
from .errors import StructureError


def apply_updates(params: Params, updates: Updates) -> Params:
    """Returns ``params + updates``: computed wide, rounded once, in the dtypes of `params`.

    The minus sign is already in the updates. Where the update is `None`, the parameter is kept.

    Raises:
        StructureError: If the trees, or the shapes of two leaves, do not match.
    """
    return tree.map(_applied, params, updates)


@torch.no_grad()
def apply_updates_(params: Params, updates: Updates) -> None:
    """Adds `updates` to `params` in place, with the same rounding as `apply_updates`.

    Raises:
        StructureError: If the trees, or the shapes of two leaves, do not match; nothing is changed.
    """
    new = apply_updates(params, updates)  # all of it before the first write
    tree.map(lambda p, q: p if p is q else p.copy_(q), params, new)


def detach_state(state: State) -> State:
    """`state` without its history: what follows is not differentiated through what came before."""
    return tree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, state)


def state_dict(state: State) -> dict[str, Tensor]:
    """`state` as one flat dict of tensors, by path, e.g. ``slots/weight/exp_avg``.

    It loads under ``torch.load(weights_only=True)``. The tensors are those of the state, not
    copies.
    """
    return dict(zip(tree.names(state), tree.flatten(state)[0], strict=True))


def load_state_dict(state: State, loaded: dict[str, Tensor]) -> State:
    """A state in the structure of `state`, with its dtypes and devices, and the values of `loaded`.

    Args:
        state: A state of the same transformation and parameters, e.g. what `init` returns.
        loaded: What `state_dict` returned.

    Raises:
        StructureError: If the paths or shapes differ; it lists them all.
    """
    names, (mine, spec) = tree.names(state), tree.flatten(state)
    reshaped = [
        f"{name}: {tuple(loaded[name].shape)} instead of {tuple(x.shape)}"
        for name, x in zip(names, mine, strict=True)
        if name in loaded and loaded[name].shape != x.shape
    ]
    missing, unknown = sorted(set(names) - set(loaded)), sorted(set(loaded) - set(names))
    if missing or unknown or reshaped:
        raise StructureError(
            f"`load_state_dict`: this state belongs to another transformation or to other "
            f"parameters. Missing: {missing}. Unknown: {unknown}. Of another shape: {reshaped}."
        )
    return spec.unflatten(
        [loaded[name].to(x.device, x.dtype, copy=True) for name, x in zip(names, mine, strict=True)]
    )


def _applied(p: Tensor, u: Any) -> Tensor:
    if u is None:
        return p
    if p.shape != u.shape:
        raise StructureError(
            f"`apply_updates`: an update of shape {tuple(u.shape)} cannot be added to a parameter "
            f"of shape {tuple(p.shape)}."
        )
    applied: Tensor = (p + u).to(p.dtype)
    return applied
