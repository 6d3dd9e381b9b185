"""Autocast and default devices: they are for models.

A step is computed without them, and the loss in a step with them.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Fn = TypeVar("Fn", bound=Callable[..., Any])

KINDS = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "xla", "ipu", "privateuseone")
"""The kinds of devices that there is an autocast for."""


def outside_contexts(fn: Fn, evaluated: str = "value_fn") -> Fn:
    """`fn`, computed without autocast and with no default device, wherever it is called.

    Its keyword argument `evaluated`, the loss as a function, is called in what is around it, as it
    was written.
    """

    @functools.wraps(fn)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if (found := _around()) is None:
            return fn(*args, **kwargs)
        enter, leave = found
        if evaluated in kwargs:
            kwargs[evaluated] = _within(enter, kwargs[evaluated])
        with leave:
            return outside(*args, **kwargs)

    return outside  # type: ignore[return-value]


def _around() -> tuple[Callable[[], Any], Any] | None:
    """What enters one of the contexts around, and a context that undoes it; `None` if none is."""
    if torch._C._is_any_autocast_enabled():
        kind = [kind for kind in KINDS if torch.is_autocast_enabled(kind)][0]  # noqa: RUF015
        dtype = torch.get_autocast_dtype(kind)
        return lambda: torch.autocast(kind, dtype), torch.autocast(kind, dtype, enabled=False)
    # A default device is a mode of torch functions; to ask for it takes long.
    if torch.compiler.is_compiling() or not torch._C._len_torch_function_stack():
        return None
    device = torch.get_default_device()
    return None if device.type == "cpu" else (lambda: device, torch.device("cpu"))


def _within(enter: Callable[[], Any], fn: Any) -> Any:
    """`fn` in this context, with its method `value_and_grad` if it has one."""
    if not callable(fn):  # which whoever calls it refuses
        return fn

    def within(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return fn(*args, **kwargs)

    if (own := getattr(fn, "value_and_grad", None)) is not None:
        within.value_and_grad = _within(enter, own)  # type: ignore[attr-defined]
    return within


def forget_casts() -> None:
    """Drops the copies of parameters that autocast has made, as these were written in place.

    It keeps them until its outermost region ends, and would go on with what they were.
    """
    if not torch.compiler.is_compiling():
        torch.clear_autocast_cache()
