"""Functions of updates and state: applying, averaging, saving and loading."""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics.autocast import forget_casts
from .._numerics.names import plain_names
from ..errors import FuncoptError, LeafError, StructureError
from ..typing import OptState, Params, Tree, Updates
from . import pure
from .average import only_average
from .kinds import check_state, check_tree, expect_transformation, leaves_like
from .per_tensor import PerTensor
from .stage import State
from .transformation import GradientTransformation


def apply_updates(params: Params, updates: Updates) -> Params:
    """Returns ``params + updates``: computed wide, rounded once, in the dtypes of `params`.

    The minus sign is already in the updates. Where the update is `None`, the parameter is kept.

    Raises:
        StructureError: If the trees, or the shapes of two leaves, do not match.
        LeafError: If a leaf cannot hold the sum: integers, or a real parameter a complex update.
    """
    if pure.fused_sum is not None and not torch.compiler.is_compiling():
        made: Params | None = pure.fused_sum(params, updates)
        if made is not None:
            return made
    ps, spec = tree.flatten(params)
    us = leaves_like("apply_updates", spec, updates)
    pairs = enumerate(zip(ps, us, strict=True))
    return spec.unflatten([_sum(params, i, p, u) for i, (p, u) in pairs])


def _sum(params: Params, i: int, p: Any, u: Any) -> Any:
    """One leaf of the sum."""
    if p is None or u is None:
        return p
    plain = type(u) is Tensor and isinstance(p, Tensor)
    if not plain or p.shape != u.shape or p.dtype is not u.dtype:
        _check(params, i, p, u)
        wide: Tensor = p + u
        return wide if wide.dtype == p.dtype else wide.to(p.dtype)
    if not (p.is_floating_point() or p.is_complex()):
        _check(params, i, p, u)
    return p + u


@torch.no_grad()
def apply_updates_(params: Params, updates: Updates) -> None:
    """Adds `updates` to `params` in place, with the same rounding as `apply_updates`.

    Raises:
        StructureError: If the trees, or the shapes of two leaves, do not match; nothing is changed.
    """
    new = apply_updates(params, updates)  # all of it before the first write
    tree.map(lambda p, q: p if p is q else p.copy_(q), params, new)
    forget_casts()


def update_and_apply(
    tx: GradientTransformation, updates: Updates, state: OptState, params: Params, **extra: Any
) -> tuple[Params, OptState]:
    """`tx.update` and `apply_updates` in one pass over memory.

        grads = grad(loss)(params, batch)
        params, state = update_and_apply(tx, grads, state, params)

    The results are those of the two functions, to the same rounding, and it is as pure as they are:
    what is passed in stays as it is. On concrete tensors no update is written to memory and read
    again, which is a third of what AdamW reads and writes. Under `torch.func`, `torch.compile` and
    derivatives it is the two functions. `donated` goes further: its results lie in the memory of
    `params` and `state`.

    Args:
        tx: Any transformation.
        updates: Gradients, in the structure of the parameters. Where one is `None`, the parameter
            is kept.
        state: The result of `init` or of the previous call.
        params: The current parameters.
        **extra: Extra arguments of the stages, by name.

    Raises:
        HyperparameterError: If `tx` is not a transformation; and all errors of `update` and
            `apply_updates`.
    """
    expect_transformation("update_and_apply", tx, "update_and_apply(tx, updates, state, params)")
    if (made := _in_one_pass(tx, updates, state, params, extra)) is not None:
        return made
    new_updates, new_state = tx.update(updates, state, params, **extra)
    return apply_updates(params, new_updates), new_state


def _in_one_pass(
    tx: Any, updates: Any, state: Any, params: Any, extra: Any
) -> tuple[Any, Any] | None:
    """Parameters and state, if an engine makes both at once."""
    is_one = isinstance(tx, PerTensor) and isinstance(state, State)
    if pure.fused_update is None or not is_one or torch.compiler.is_compiling():
        return None
    try:
        made = pure.fused_update(tx, updates, state, params, extra, True)
    except FuncoptError:
        raise
    except Exception:  # `update` says what is wrong
        return None
    return None if made is None else (made[0], made[1])


def detach_state(state: Tree) -> Tree:
    """`state`, detached: derivatives of what follows do not go through earlier steps."""
    check_state("detach_state", state, "load_state_dict(state_dict())")

    def detached(x: Tensor) -> Tensor:
        return x.detach() if isinstance(x, Tensor) else x

    return tree.map(detached, state)


def eval_params(
    tx: GradientTransformation, state: OptState, params: Params, *, which: str | None = None
) -> Params:
    """The parameters to evaluate the model with: an average where `tx` keeps one, else `params`.

    A pure function: training goes on with `params` and `state` as they are.

        tx = chain(adamw(1e-3), ema_of_params(0.99, name="fast"), ema_of_params(0.999, name="slow"))
        eval_params(tx, state, params, which="slow")

    Args:
        tx: The transformation.
        state: Its state.
        params: The current parameters.
        which: The average, where `tx` keeps several: the `name` of a stage, else its class.

    Raises:
        HyperparameterError: If `tx` is no transformation.
        StructureError: If the state belongs to another transformation or to other parameters, the
            arguments come in another order, several stages keep an average and none is chosen, or
            there is none of this name.
    """
    expect_transformation("eval_params", tx, "eval_params(tx, state, params)")
    check_tree("eval_params", "params", params)
    return only_average("eval_params", tx, which).averaged(state, params)


def state_dict(state: Tree) -> dict[str, Tensor]:
    """`state` as one flat dict of tensors, by path, e.g. ``slots/weight/exp_avg``.

    It loads under ``torch.load(weights_only=True)``. The tensors are those of the state, not
    copies.
    """
    check_state("state_dict", state, "state_dict()")
    return dict(zip(tree.names(state), tree.flatten(state)[0], strict=True))


def load_state_dict(state: Tree, loaded: dict[str, Tensor]) -> Tree:
    """A state in the structure of `state`, with its dtypes and devices, and the values of `loaded`.

    What wrappers of modules such as `torch.compile` put into names may differ.

    Args:
        state: A state of the same transformation and parameters, e.g. what `init` returns.
        loaded: What `state_dict` returned.

    Raises:
        StructureError: If the paths or shapes differ; it lists them all.
    """
    check_state("load_state_dict", state, "load_state_dict(loaded)")
    if not isinstance(loaded, dict):
        raise StructureError(
            f"`load_state_dict`: expected what `state_dict` returned, got {type(loaded).__name__}. "
            "The order is `load_state_dict(state, loaded)`."
        )
    names, (mine, spec) = plain_names(tree.names(state)), tree.flatten(state)
    loaded = dict(zip(plain_names(list(loaded)), loaded.values(), strict=True))
    reshaped = [
        f"{name}: {_shape_of(loaded[name])} instead of {_shape_of(x)}"
        for name, x in zip(names, mine, strict=True)
        if name in loaded and _shape_of(loaded[name]) != _shape_of(x)
    ]
    missing, unknown = sorted(set(names) - set(loaded)), sorted(set(loaded) - set(names))
    if missing or unknown or reshaped:
        raise StructureError(
            f"`load_state_dict`: this state belongs to another transformation or to other "
            f"parameters. Missing: {missing}. Unknown: {unknown}. Shape mismatch: {reshaped}."
        )
    return spec.unflatten(
        [loaded[name].to(x.device, x.dtype, copy=True) for name, x in zip(names, mine, strict=True)]
    )


def _shape_of(x: Any) -> Any:
    """The shape of a tensor; of anything else a description."""
    return tuple(x.shape) if isinstance(x, Tensor) else f"no tensor but {x!r}"


def _check(params: Params, i: int, p: Any, u: Any) -> None:
    """Refuses an update that the parameter cannot take."""
    if not isinstance(u, Tensor) or not isinstance(p, Tensor) or p.shape != u.shape:
        got = f"of shape {tuple(u.shape)}" if isinstance(u, Tensor) else repr(u)
        raise StructureError(
            f"`apply_updates`: the update of `{tree.names(params)[i]}` must have the parameter's "
            f"shape {tuple(p.shape) if isinstance(p, Tensor) else p!r}, got one {got}."
        )
    if not p.is_complex() and (u.is_complex() or not p.is_floating_point()):
        raise LeafError(
            f"`apply_updates`: parameter `{tree.names(params)[i]}` of {p.dtype} cannot take an "
            f"update of {u.dtype}: give it the update's dtype, or leave it out."
        )
