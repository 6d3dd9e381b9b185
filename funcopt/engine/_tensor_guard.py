"""Whether tensors still have the form that they had, found out quickly."""

import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _identity


class Alike:
    """Compares tensors with earlier ones: dtype, device, shape, strides and kind, not values.

    `standing` are always the same objects. As long as each begins where it did, only the others are
    looked at: so they are to be vectors, which cannot be turned at their place. One that begins
    there too but has other strides goes unnoticed.
    """

    def __init__(self, moving: Sequence[Tensor], standing: Sequence[Tensor] = ()) -> None:
        self._standing = list(standing)
        self._plain = all(type(x) in (Tensor, torch.nn.Parameter) for x in standing)
        self.where = self._begin()
        self._of_moving = _Form(moving)
        self._of_all = _Form([*standing, *moving])

    where: "array.array[int] | None"
    """Where the standing ones begin, the same object while they do; `None` if it is not known."""

    def __call__(self, moving: Sequence[Tensor]) -> bool:
        where = self._begin()
        if where is not None and where == self.where:
            return self._of_moving(moving)
        holds = self._of_all([*self._standing, *moving])
        self.where = where if holds else None
        return holds

    def _begin(self) -> "array.array[int] | None":
        many = self._plain and len(self._standing) >= _identity.MANY
        return _identity.addresses(self._standing) if many and _identity.finds() else None


class _Form:
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._count = len(tensors)
        self._check: Callable[..., bool] = _compiled(tensors) or _plain(tensors)

    def __call__(self, tensors: Sequence[Tensor]) -> bool:
        return len(tensors) == self._count and bool(self._check(*tensors))


def _compiled(tensors: Sequence[Tensor]) -> Callable[..., bool] | None:
    """By what Dynamo guards its graphs with: 50 ns for a tensor; not a public part of torch."""
    try:
        from torch._C._dynamo.guards import TensorGuards

        check: Callable[..., bool] = TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return check if check(*tensors) else None
    except (ImportError, TypeError, RuntimeError, ValueError):
        return None


def _plain(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    known = list(map(_form, tensors))
    return lambda *others: list(map(_form, others)) == known


def _form(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return None
    return (type(x), x.dtype, x.device, x.shape, x.stride(), x.is_conj(), x.is_neg())
