"""A guard on the metadata of many tensors: all that is not their values."""

import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._numerics.scalars import is_plain
from . import _identity


class TensorGuard:
    """Checks tensors against the metadata of earlier ones; values do not matter.

    That is type, dtype, device, layout, shape, strides, and whether autograd follows them. Where
    there was `None`, there has to be again.

    `changing` tensors are others in every step, such as gradients. `fixed` ones are always the same
    objects: as long as each of them begins at the same address, only the others are checked. They
    have to be vectors, which cannot be transposed in place; one that begins at the same address
    with other strides goes unnoticed.
    """

    def __init__(self, changing: Sequence[Tensor | None], fixed: Sequence[Tensor] = ()) -> None:
        self._fixed = list(fixed)
        self._plain = all(map(is_plain, fixed))
        self.addresses = self._fixed_addresses()
        self._check_changing = _metadata_check(changing)
        self._check_all = _metadata_check([*fixed, *changing])

    addresses: "array.array[int] | None"
    """Of the fixed tensors; the same object as long as they are equal; `None` if not known."""

    def holds(self, changing: Sequence[Tensor | None]) -> bool:
        """Whether all tensors still have the metadata that they had."""
        addresses = self._fixed_addresses()
        if addresses is not None and addresses == self.addresses:
            return self._check_changing(changing)
        holds = self._check_all([*self._fixed, *changing])
        self.addresses = addresses if holds else None
        return holds

    def _fixed_addresses(self) -> "array.array[int] | None":
        many = self._plain and len(self._fixed) >= _identity.MIN_COUNT
        return _identity.addresses(self._fixed) if many and _identity.reads_addresses() else None


def _metadata_check(tensors: Sequence[Any]) -> Callable[[Sequence[Any]], bool]:
    present, count = _present(tensors), len(tensors)
    check = dynamo_check(present) or python_check(present)
    if len(present) == count:  # nearly always, and then it costs nothing
        return lambda others: len(others) == count and bool(check(*others))
    types = list(map(type, tensors))
    return lambda others: list(map(type, others)) == types and bool(check(*_present(others)))


def _present(tensors: Sequence[Any]) -> list[Any]:
    """Without the places where there is none, such as a gradient that is missing."""
    return [x for x in tensors if x is not None]


def dynamo_check(tensors: Sequence[Tensor]) -> Callable[..., bool] | None:
    """The guard of Dynamo: 50 ns for a tensor; not a public part of torch."""
    try:
        from torch._C._dynamo.guards import TensorGuards

        check: Callable[..., bool] = TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return check if check(*tensors) else None
    except (ImportError, TypeError, RuntimeError, ValueError):
        return None


def python_check(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    expected = list(map(_metadata, tensors))
    return lambda *others: list(map(_metadata, others)) == expected


def _metadata(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return type(x)
    strides = x.stride() if x.layout is torch.strided else None
    flags = (x.requires_grad, x.is_conj(), x.is_neg(), x._is_zerotensor())
    return (type(x), x.dtype, x.device, x.layout, x.shape, strides, flags)
