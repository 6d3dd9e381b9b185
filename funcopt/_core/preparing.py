"""Where the scalars of a step are prepared: by the rule itself, or by an engine for it."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from .._numerics.scalars import exact
from ..typing import Memory

Prepare = Callable[[Any, Any, Memory], Mapping[str, Any]]
"""The scalars that a rule prepares for a step, a number or a 0-d tensor, and its memory."""


def prepare(rule: Any, step: Any, memory: Memory) -> Mapping[str, Any]:
    """By the rule itself."""
    more: Mapping[str, Any] = rule.prepare(exact(step), memory)
    return more


_by = contextvars.ContextVar[Prepare]("funcopt_prepare", default=prepare)


def prepared(rule: Any, step: Any, memory: Memory) -> Mapping[str, Any]:
    """The scalars of a rule in this context."""
    if torch.compiler.is_compiling():  # which knows no such variables
        return prepare(rule, step, memory)
    return _by.get()(rule, step, memory)


@contextlib.contextmanager
def prepared_by(function: Prepare) -> Iterator[None]:
    """Within it, `function` prepares scalars."""
    token = _by.set(function)
    try:
        yield
    finally:
        _by.reset(token)
