"""Autocast: it is for models. A step is computed without it, and the loss in a step with it."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Fn = TypeVar("Fn", bound=Callable[..., Any])

KINDS = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "xla", "ipu", "privateuseone")
"""The kinds of devices that there is an autocast for."""


def outside_autocast(fn: Fn, evaluated: str = "value_fn") -> Fn:
    """`fn`, computed without autocast wherever it is called.

    Its keyword argument `evaluated`, the loss as a function, is called under the autocast around
    it, as it was written.
    """

    @functools.wraps(fn)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if not torch._C._is_any_autocast_enabled():
            return fn(*args, **kwargs)
        kind = [kind for kind in KINDS if torch.is_autocast_enabled(kind)][0]  # noqa: RUF015
        dtype = torch.get_autocast_dtype(kind)
        if evaluated in kwargs:
            kwargs[evaluated] = _under(kind, dtype, kwargs[evaluated])
        with torch.autocast(kind, dtype, enabled=False):
            return outside(*args, **kwargs)

    return outside  # type: ignore[return-value]


def _under(kind: str, dtype: torch.dtype, fn: Any) -> Any:
    """`fn` under this autocast, with its method `value_and_grad` if it has one."""
    if not callable(fn):  # which whoever calls it refuses
        return fn

    def under(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(kind, dtype):
            return fn(*args, **kwargs)

    if (own := getattr(fn, "value_and_grad", None)) is not None:
        under.value_and_grad = _under(kind, dtype, own)  # type: ignore[attr-defined]
    return under


def forget_casts() -> None:
    """Drops the copies of parameters that autocast has made, as these were written in place.

    It keeps them until its outermost region ends, and would go on with what they were.
    """
    if not torch.compiler.is_compiling():
        torch.clear_autocast_cache()
