"""Running functions of tensors for shapes and dtypes alone."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class OnMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the context, operations make tensors on the meta device, which allocate nothing.

    Tensors that are passed in may be on any device, and stay the objects that they are: functions
    of parameters can still tell these apart. What reads a value is an error of torch.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if types:  # such as shards, which come again with their parts
            return NotImplemented
        args, kwargs = tree_map(_on_meta, (args, dict(kwargs or {})))
        if "device" in kwargs:
            kwargs["device"] = torch.device("meta")
        return func(*args, **kwargs)


def _on_meta(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("meta")
    if not isinstance(x, Tensor) or x.is_meta:
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
