"""Running functions of tensors elsewhere than where the tensors are."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from .shards import is_sharded


class MadeOn(TorchDispatchMode):
    """Within the context, operations run on this device, and make their tensors there.

    Tensors that are passed in may be on any device, and stay the objects that they are: functions
    of parameters can still tell these apart. On "meta", nothing is allocated, and what reads a
    value is an error of torch.
    """

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = torch.device(device)
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # with the tensor, whose id it is

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if any(map(is_sharded, tree_leaves((args, kwargs)))):  # its parts will come here
            return NotImplemented
        args, kwargs = tree_map(self._here, (args, dict(kwargs or {})))
        if "device" in kwargs:
            kwargs["device"] = self._device
        return func(*args, **kwargs)

    def _here(self, x: Any) -> Any:
        if isinstance(x, torch.device):
            return self._device
        if not isinstance(x, Tensor) or x.device.type == self._device.type:
            return x
        if id(x) not in self._copies:
            self._copies[id(x)] = x, x.to(self._device)
        return self._copies[id(x)][1]
