"""Devices that are there on every computer and have values: torch's lazy tensors, on CPU threads.

They stand for GPUs: what meets there, and what is waited for, is checked by a mode.
"""

import functools
from collections import Counter

import torch
from torch import Tensor
from torch._lazy import sync_multi
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CARRY = frozenset({"to", "cpu", "copy_", "_foreach_copy_", "__get__", "is_set_to"})
"""Functions that take tensors of two devices."""

READ = frozenset({"item", "tolist", "__bool__", "__float__", "__int__", "__index__"})
PLAIN = (Tensor, torch.nn.Parameter)


@functools.cache
def begin():
    """Makes the device "lazy" known to torch."""
    from torch._lazy import ts_backend

    ts_backend.init()


def spread(tensors, devices):
    """The tensors of a dict, on these devices in turns."""
    begin()
    return {k: x.to(devices[i % len(devices)]) for i, (k, x) in enumerate(tensors.items())}


class Apart(TorchFunctionMode):
    """Within it, tensors of two devices may not meet, but for 0-d tensors of the host.

    `waits` counts what the host waits for: a value of a device that it reads or gets, and a copy
    to a device that is not said to be `non_blocking`.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        given = [x for x in tree_leaves((args, kwargs)) if type(x) in PLAIN]
        far = {x.device for x in given if x.device.type != "cpu"}
        from_host = any(x.device.type == "cpu" for x in given)
        larger = any(x.dim() and x.device.type == "cpu" for x in given)
        if name not in CARRY and (len(far) > 1 or (far and larger)):
            where = [f"{tuple(x.shape)} on {x.device}" for x in given]
            raise RuntimeError(f"{name}: expected all tensors on the same device, got {where}")
        if name in READ and far:
            self.waits[name] += 1
        out = self._run(func, name, args, kwargs)
        if name in CARRY and isinstance(out, Tensor):
            there = out.device.type != "cpu"
            if there and from_host and not kwargs.get("non_blocking"):
                self.waits["to a device"] += 1
            if not there and far:
                self.waits["to the host"] += 1
        return out

    def _run(self, func, name, args, kwargs):
        """The function, without four faults of lazy tensors."""
        x, *others = args or (None,)
        if name == "to" and others and isinstance(others[0], torch.device):
            hosted = "cpu" in (x.device.type, others[0].type)
            if not hosted and others[0] != x.device:  # over the host
                return on_host(x).to(others[0])
        if name in ("unbind", "__iter__") and x.device.type != "cpu":  # cannot be stacked again
            (dim,) = others or (kwargs.get("dim", 0),)
            parts = tuple(x.select(dim, i) for i in range(x.shape[dim]))
            return iter(parts) if name == "__iter__" else parts
        if name == "split" and x.device.type != "cpu":  # comes out on the host
            size, dim = (*others, kwargs.get("dim", 0))[:2]
            n = x.shape[dim]
            return tuple(x.narrow(dim, i, min(size, n - i)) for i in range(0, max(n, 1), size))
        out = func(*args, **kwargs)
        # A compiled graph is found again by a hash that does not tell x - y + x from x - y + y
        # where x and y have one shape. So each function is a graph of its own.
        for y in tree_leaves((args, kwargs, out)):
            if type(y) in PLAIN and y.device.type == "lazy":
                sync_multi([y], [])
        return on_host(out) if isinstance(out, Tensor) and out.device.type == "cpu" else out


def on_host(x):
    """The values of a tensor, without what lazy tensors leave around them."""
    x = x.detach().cpu() if x.device.type != "cpu" else x
    return torch._from_functional_tensor(x) if torch._is_functional_tensor(x) else x
