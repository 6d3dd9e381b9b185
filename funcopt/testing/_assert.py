"""Assertions that the laws share."""

from typing import Any

import torch

from .. import tree
from .._core.tensor_rule import GradientTransformation
from ..typing import OptState

__tracebackhide__ = True  # pytest shows the caller's line


def require(tx: GradientTransformation, holds: bool, what: str) -> None:
    """Raises an error that names `tx`, unless the law holds."""
    if not holds:
        raise AssertionError(f"{tx!r} {what}.")


def describe(values: Any) -> list[tuple[Any, ...]]:
    """The path, shape and dtype of every leaf; of one that is no tensor, the path and `repr`."""
    leaves = zip(tree.names(values), tree.flatten(values)[0], strict=True)
    return [
        (name, x.shape, x.dtype) if isinstance(x, torch.Tensor) else (name, repr(x))
        for name, x in leaves
    ]


def same_metadata(tx: GradientTransformation, what: str, got: Any, expected: Any) -> None:
    """Two results of `describe` are the same."""
    different = [f"{a} instead of {b}" for a, b in zip(got, expected, strict=False) if a != b]
    if different or len(got) != len(expected):
        raise AssertionError(f"{tx!r}: {what} changed in form: {different or (got, expected)}.")


def close(tx: GradientTransformation, what: str, got: Any, expected: Any, tol: float) -> None:
    """Two trees have the same form, and the same values, up to `tol`."""
    same_metadata(tx, what, describe(got), describe(expected))
    pairs = zip(tree.flatten(got)[0], tree.flatten(expected)[0], strict=True)
    for name, (a, b) in zip(tree.names(got), pairs, strict=True):
        if isinstance(a, torch.Tensor) and not torch.allclose(
            a, b, rtol=tol, atol=tol, equal_nan=True
        ):
            raise AssertionError(f"{tx!r}: {what} differ at `{name}`: {a} instead of {b}.")


def shares_no_memory(
    tx: GradientTransformation, one: str, a: OptState, other: str, b: OptState
) -> None:
    """Two trees share no memory."""
    memory = {x.untyped_storage().data_ptr() for x in _tensors(b)}
    shared = [x for x in _tensors(a) if x.untyped_storage().data_ptr() in memory]
    require(tx, not shared, f"lets {one} share memory with {other}")


def distinct(tx: GradientTransformation, what: str, values: Any) -> None:
    """No two tensors of a tree share memory."""
    memory = [x.untyped_storage().data_ptr() for x in _tensors(values)]
    require(tx, len(set(memory)) == len(memory), f"lets two tensors of {what} share memory")


def _tensors(values: Any) -> list[torch.Tensor]:
    """The tensors with memory of their own."""
    return [x for x in tree.leaves(values) if isinstance(x, torch.Tensor) and x.numel()]
