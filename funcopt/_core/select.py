"""A choice that is a branch where Python may look, and a `torch.where` where it may not."""

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import beside, is_stand_in, near, number, on_each_device, where
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
    if not isinstance(flag, Tensor):
        chosen = yes if flag else no
        return chosen() if callable(chosen) else chosen
    yes, no = (branch() if callable(branch) else branch for branch in (yes, no))
    on = on_each_device(flag)
    return tree.map(lambda a, b: a if a is b else _choose(flag, on, a, b), yes, no)


def _choose(flag: Tensor, on: Callable[[torch.device], Tensor], yes: Any, no: Any) -> Any:
    """One of two leaves, without waiting for a device; numbers stay as exact as `prepare` has them.

    Scalars go where the flag is, and the flag to where larger tensors are.
    """
    tensor = yes if isinstance(yes, Tensor) else no
    if not isinstance(tensor, Tensor):
        return where(flag, yes, no)
    if not is_stand_in(tensor) and flag.device != tensor.device:
        if tensor.device.type == "cpu" and not tensor.dim():
            there = (x for x in (yes, no) if isinstance(x, Tensor) and x.device == flag.device)
            dtype = next(there, tensor).dtype  # a device may have no float64
            yes, no = (beside(flag, x).to(dtype) for x in (yes, no))
        else:
            flag = on(tensor.device)
    if isinstance(no, Tensor) and not is_stand_in(no):
        no = near(no, flag.device)
    return torch.where(flag, yes, no)


def unless(flag: Any, xs: Sequence[Tensor], *, both: bool = False) -> list[Tensor]:
    """`xs`, but zero where `flag` holds: for a branch that `select` does not take there.

    It is computed all the same where Python may not look, and its derivative is multiplied by zero:
    it must be finite then.
    """
    flag = torch.as_tensor(flag) if both else number(flag)
    if not isinstance(flag, Tensor):
        return list(xs)
    on = on_each_device(flag)
    return [torch.where(flag if is_stand_in(x) else on(x.device), 0.0, x) for x in xs]
