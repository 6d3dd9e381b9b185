"""What a rule concludes of many tensors: asked once for all, where that is the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import is_mapped

TOGETHER = 4
"""From so many tensors on it is faster to ask of all of them at once."""

WORDS = (str, bool, torch.dtype, torch.device, type(None))

Ask = Callable[..., Mapping[str, Any]]
"""The answers, by name, to what was measured of one tensor: 0-d tensors."""


def of_each(
    ask: Ask, columns: Sequence[Tensor], *, beside: Any
) -> tuple[Sequence[Mapping[str, Any]], frozenset[str]]:
    """The answers of each tensor, and which of them each may have its own of.

    Each of the `columns` has an entry for every tensor. `beside` is what `ask` looks at besides.
    """
    if len(columns[0]) >= TOGETHER and not _is_watched(columns) and _is_plain(beside, columns):
        try:
            return _at_once(ask, columns)
        except (RuntimeError, ValueError):
            pass  # it looks at what it is given, so it is asked one by one
    each = [ask(*total) for total in zip(*columns, strict=True)]
    names = frozenset().union(*each)
    return each, frozenset(name for name in names if not _is_fixed(name, each))


def _at_once(
    ask: Ask, columns: Sequence[Tensor]
) -> tuple[Sequence[Mapping[str, Any]], frozenset[str]]:
    answers: dict[str, tuple[list[Any], tree.Spec]] = {}

    def one(*total: Tensor) -> list[Tensor]:
        answers.update((name, tree.flatten(value)) for name, value in ask(*total).items())
        leaves = [x for leaves, _ in answers.values() for x in leaves]
        if not all(isinstance(x, (Tensor, *WORDS, int, float)) for x in leaves):
            raise ValueError("a number may be hidden in one of these")
        return list(filter(torch.is_tensor, leaves))

    found = iter(torch.func.vmap(one)(*columns))
    out: list[dict[str, Any]] = [{} for _ in columns[0]]
    for name, (leaves, made) in answers.items():
        each = [next(found).unbind() if torch.is_tensor(x) else None for x in leaves]
        for i, more in enumerate(out):
            own = [x if y is None else y[i] for x, y in zip(leaves, each, strict=True)]
            more[name] = made.unflatten(own)
    varies = {name for name, (leaves, _) in answers.items() if any(map(torch.is_tensor, leaves))}
    return out, frozenset(varies)


def _is_watched(tensors: Sequence[Tensor]) -> bool:
    """Whether somebody follows every operation: a compiler, or a derivative."""
    return torch.compiler.is_compiling() or is_mapped() or any(x.requires_grad for x in tensors)


def _is_plain(beside: Any, columns: Sequence[Tensor]) -> bool:
    """Whether no tensor is beside those measured that could make another dtype of theirs."""
    dtypes = {x.dtype for x in columns}
    others = [x for x in tree.leaves(beside) if isinstance(x, Tensor)]
    return all(x.dtype in dtypes or not x.is_floating_point() for x in others)


def _is_fixed(name: str, each: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is a word or a flag, and the same for each."""
    first = each[0].get(name)
    return isinstance(first, WORDS) and all(more.get(name) == first for more in each)
