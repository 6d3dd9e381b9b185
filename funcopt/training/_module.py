"""Modules as pure functions: their tensors taken apart, passed in, and written back.

`torch.func.functional_call` does the work. What is added is the bookkeeping that it leaves to the
caller: which parameters are trained, buffers that a call changes, and the way back.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .._core.compact import compact
from .._core.kinds import check_function, check_is, check_module
from .._numerics.names import plain_name
from ..errors import LabelError, StructureError


class ModuleState(NamedTuple):
    """The tensors of a module, by name; tied ones once."""

    params: dict[str, Tensor]  # to be trained
    frozen: dict[str, Tensor]  # the other parameters
    buffers: dict[str, Tensor]  # such as the running statistics of a batch norm

    def __repr__(self) -> str:
        return compact(self)


def split_module(
    module: nn.Module, trainable: str | Callable[[str, Tensor], bool] | None = None
) -> ModuleState:
    """The tensors of `module`, detached: no call and no step made with them changes it.

    Args:
        module: Any module. Of a tied parameter, the first name counts.
        trainable: Which parameters are trained: a regular expression that is searched for in the
            name, or a predicate ``(name, tensor)``; by default, those that require grad.

    Raises:
        HyperparameterError: If `module` or `trainable` is something else.
        LabelError: If `trainable` fits no parameter.
    """
    check_module("split_module", module)
    if trainable is not None and not isinstance(trainable, str):
        check_function("split_module", "trainable", trainable, "trainable(name, tensor)", 2)
    named = dict(module.named_parameters())
    chosen = {name for name, p in named.items() if _fits(trainable, plain_name(name), p)}
    if trainable is not None and named and not chosen:
        raise LabelError(
            f"`split_module`: `trainable` {trainable!r} fits none of the parameters "
            f"{[plain_name(name) for name in named]}."
        )
    return ModuleState(
        {name: p.detach() for name, p in named.items() if name in chosen},
        {name: p.detach() for name, p in named.items() if name not in chosen},
        {name: b.detach() for name, b in module.named_buffers()},
    )


def call_module(
    module: nn.Module, state: ModuleState, *args: Any, **kwargs: Any
) -> tuple[Any, dict[str, Tensor]]:
    """What `module` returns with the tensors of `state` in place of its own, and the new buffers.

    Neither `module` nor `state` is changed: the call works on copies of the buffers. Under
    `torch.func.vmap` buffers that a call changes have to be mapped over, as parameters are (see
    `stack`), and dropout needs ``randomness="different"``. As always in torch, no derivative goes
    through the running statistics of a batch norm.
    """
    check_module("call_module", module)
    check_is("call_module", "state", state, ModuleState, "split_module(module)")
    tensors = {**state.params, **state.frozen}
    tensors.update((name, b.clone()) for name, b in state.buffers.items())
    output = functional_call(module, tensors, args, kwargs)
    return output, {name: tensors[name] for name in state.buffers}


@torch.no_grad()
def write_back(module: nn.Module, state: ModuleState) -> None:
    """Copies the tensors of `state` into `module`, in place.

    Raises:
        StructureError: If a name or a shape does not fit; it lists them all, and nothing is
            changed.
    """
    check_module("write_back", module)
    check_is("write_back", "state", state, ModuleState, "split_module(module)")
    new = {**state.params, **state.frozen, **state.buffers}
    mine = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    unknown = sorted(set(new) - set(mine))
    reshaped = [
        f"{name}: {tuple(x.shape)} instead of {tuple(mine[name].shape)}"
        for name, x in new.items()
        if name in mine and x.shape != mine[name].shape
    ]
    if unknown or reshaped:
        raise StructureError(
            f"`write_back`: the tensors belong to another module. Unknown: {unknown}. Shape "
            f"mismatch: {reshaped}. Of many models, take one: `unstack(state)[i]`."
        )
    for name, x in new.items():
        mine[name].copy_(x)


def _fits(which: Any, name: str, p: Tensor) -> bool:
    if which is None:
        return p.requires_grad
    return re.search(which, name) is not None if isinstance(which, str) else bool(which(name, p))
