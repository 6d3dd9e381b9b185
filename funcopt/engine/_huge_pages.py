"""Large results in huge pages, where the system has them: fresh memory costs a page fault a page.

In pages of 4 KB that takes longer than to compute what is written there. NumPy asks for huge ones
where an array is as large; for the tensors of torch, its ``THP_MEM_ALLOC_ENABLE=1`` does.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from ._freed_memory import keep_freed_memory

LARGE = 2**22
"""Bytes from which on huge pages are asked for."""

SMALL = 2**13
"""Bytes of a tensor up to which it does not matter: it lies between others, or in no huge page."""

NEAR = 2**16
"""Bytes that may lie between two tensors, which then are asked for together."""


def in_huge_pages(tensors: Sequence[Tensor]) -> None:
    """Asks for huge pages for the memory of tensors, which has not been written yet.

    When they are freed, it is kept for the next ones.
    """
    if sum(x.nbytes for x in tensors) >= LARGE and all(x.device.type == "cpu" for x in tensors):
        keep_freed_memory()
        ask_for_huge_pages((x.data_ptr(), x.nbytes) for x in tensors)


def ask_for_huge_pages(spans: Iterable[tuple[int, int]]) -> None:
    """The same for memory that begins at an address and has so many bytes."""
    if _advise is None:
        return
    runs: list[tuple[int, int]] = []
    for begin, size in sorted(spans):
        if runs and begin - runs[-1][1] <= NEAR:
            runs[-1] = runs[-1][0], begin + size
        else:
            runs.append((begin, begin + size))
    for begin, end in runs:
        if end - begin >= LARGE:
            begin -= begin % mmap.PAGESIZE  # to pages, of which each belongs to it as a whole
            _advise(begin, end - begin, mmap.MADV_HUGEPAGE)  # advice: no error matters


def _found() -> Callable[..., Any] | None:
    """The function of the system, on Linux."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function: Any = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function  # type: ignore[no-any-return]


_advise = _found()
