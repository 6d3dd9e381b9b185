"""A choice that is a branch where Python may look, and a `torch.where` where it may not."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import beside, is_stand_in, number, where
from ..typing import Tree


@overload
def select(
    flag: bool | Tensor, yes: Callable[[], Tree], no: Callable[[], Tree], *, both: bool = ...
) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Callable[[], Tree], no: Tree, *, both: bool = ...) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Tree, no: Callable[[], Tree], *, both: bool = ...) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Tree, no: Tree, *, both: bool = ...) -> Tree: ...


def select(flag: Any, yes: Any, no: Any, *, both: bool = False) -> Any:
    """`yes` where `flag` holds, else `no`; each is a tree, or a function of nothing that makes one.

    Where the flag can be looked at, only the chosen one is made, so rare work is skipped. Else both
    are made and `torch.where` chooses, so nothing synchronizes and all of it can be traced. So it
    is with `both` too: for what has to be done on all ranks, whatever each of them has found.
    """
    flag = torch.as_tensor(flag) if both else number(flag)
    if not isinstance(flag, torch.Tensor):
        chosen = yes if flag else no
        return chosen() if callable(chosen) else chosen
    yes, no = (branch() if callable(branch) else branch for branch in (yes, no))
    return tree.map(lambda a, b: a if a is b else _choose(flag, a, b), yes, no)


def _choose(flag: Tensor, yes: Any, no: Any) -> Any:
    """One of two leaves, without waiting for a device; numbers stay as exact as `prepare` has them.

    Scalars go where the flag is, and the flag to where larger tensors are.
    """
    tensor = yes if isinstance(yes, torch.Tensor) else no
    if not isinstance(tensor, torch.Tensor):
        return where(flag, yes, no)
    if not is_stand_in(tensor) and flag.device != tensor.device:
        if tensor.device.type == "cpu" and not tensor.dim():
            yes, no = (beside(flag, x).to(tensor.dtype) for x in (yes, no))
        else:
            flag = flag.to(tensor.device)
    return torch.where(flag, yes, no)


def unless(flag: Any, x: torch.Tensor, *, both: bool = False) -> torch.Tensor:
    """`x`, but zero where `flag` holds: for a branch that `select` does not take there.

    It is computed all the same where Python may not look, and its derivative is multiplied by zero:
    it must be finite then.
    """
    flag = torch.as_tensor(flag) if both else number(flag)
    if isinstance(flag, torch.Tensor):
        return torch.where(flag if is_stand_in(x) else flag.to(x.device), 0.0, x)
    return x
