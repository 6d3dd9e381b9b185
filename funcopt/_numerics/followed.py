"""What runs outside of the graphs of `torch.compile`, where it may make some."""

from collections.abc import Callable
from typing import Any

import torch

_eval_frame: Any = torch._C._dynamo.eval_frame  # pyright: ignore[reportAttributeAccessIssue]
_callback: Any = getattr(_eval_frame, "get_eval_frame_callback", bool)


def outside_graphs(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``fn(*args, **kwargs)``, before which a graph ends, and in which there are none."""
    if not torch.compiler.is_compiling() and _callback() is None:  # where none are made
        return fn(*args, **kwargs)
    from . import dynamo  # not before: it is slow to import

    return dynamo.without_graphs(fn, *args, **kwargs)
