"""CUDA's rules, held on "meta": which operands are refused, and what the host waits for."""

from collections import Counter

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

REFUSE = frozenset({"clamp", "clip", "clamp_", "clip_", "clamp_min", "clamp_max"})
"""Functions that take no 0-d tensor of the host beside tensors of a device."""

COPY = frozenset({"where", "copy_"})
"""Functions that copy such a tensor, and wait for that."""

SEND = frozenset({"to", "tensor", "as_tensor", "cuda"})
INDEX = frozenset({"__getitem__", "index_select", "__setitem__"})


class AsOnCuda(TorchFunctionMode):
    """Within it, "meta" is a device as CUDA is one, as far as operands and waiting go."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        near = [x for x in given if not x.is_meta]
        mixed = near and len(near) < len(given)
        if mixed and name in REFUSE:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if mixed and name in COPY and not kwargs.get("non_blocking"):
            self.waits[name] += 1
        if mixed and name in INDEX and any(x.dim() for x in near):
            self.waits["index"] += 1
        if name in INDEX and given and given[0].is_meta and isinstance(args[1], list):
            self.waits["index"] += 1
        out = func(*args, **kwargs)
        if name in SEND and isinstance(out, Tensor) and out.is_meta and len(near) == len(given):
            self.waits.update(() if kwargs.get("non_blocking") else (name,))
        return out
