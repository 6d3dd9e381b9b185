"""How much memory a function takes."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and _key(x) not in given and _key(x) not in self._seen:
                self._add(x)
        return out

    def _add(self, x: Tensor) -> None:
        storage, key = x.untyped_storage(), _key(x)
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _key(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def peak_bytes(fn: Callable[[], Any]) -> int:
    """The most bytes of tensors made by ``fn()`` that live at one time, its result among them.

    It counts operators of torch, on any device; what a kernel uses inside is not seen.
    """
    with _Watch() as watch:
        fn()
    return int(watch.peak)
