"""A choice that is a branch where Python may look, and a `torch.where` where it may not."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import number
from ..typing import Tree


@overload
def select(flag: bool | Tensor, yes: Callable[[], Tree], no: Callable[[], Tree]) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Callable[[], Tree], no: Tree) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Tree, no: Callable[[], Tree]) -> Tree: ...


@overload
def select(flag: bool | Tensor, yes: Tree, no: Tree) -> Tree: ...


def select(flag: Any, yes: Any, no: Any) -> Any:
    """`yes` where `flag` holds, else `no`; each is a tree, or a function of nothing that makes one.

    Where the flag can be looked at, only the chosen one is made, so rare work is skipped. Else both
    are made and `torch.where` chooses, so nothing synchronises and all of it can be traced.
    """
    flag = number(flag)
    if not isinstance(flag, torch.Tensor):
        chosen = yes if flag else no
        return chosen() if callable(chosen) else chosen
    yes, no = (branch() if callable(branch) else branch for branch in (yes, no))
    return tree.map(lambda a, b: a if a is b else torch.where(flag, a, b), yes, no)


def unless(flag: Any, x: torch.Tensor) -> torch.Tensor:
    """`x`, but zero where `flag` holds: for a branch that `select` does not take there.

    It is computed all the same where Python may not look, and its derivative is multiplied by zero:
    it must be finite then.
    """
    flag = number(flag)
    if isinstance(flag, torch.Tensor):
        return torch.where(flag.to(x.device), 0.0, x)
    return x
