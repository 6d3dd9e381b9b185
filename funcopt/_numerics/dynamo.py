"""What is kept out of the graphs of `torch.compile`.

Import this file inside the functions that use it: the two decorators import all of `torch._dynamo`,
which takes as long as `import torch`.
"""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def without_graphs(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``fn(*args, **kwargs)``, before which a graph ends, and in which there are none."""
    return fn(*args, **kwargs)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constant(fn: Callable[..., Any], *args: Any) -> Any:
    """``fn(*args)``, computed while a graph is made: in the graph it is a constant."""
    return fn(*args)
