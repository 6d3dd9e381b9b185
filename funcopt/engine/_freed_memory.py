"""Memory that is freed between two steps stays with the process, up to 256 MB.

What malloc gives back to the system comes back at a page fault a page, in every step. That of glibc
gives back what is free at the end of its heap beyond a threshold, of 128 KB at first; and a block
for which it asks the system, as for all above another threshold.
"""

import ctypes
import functools
import os
import sys

KEPT = 2**28
"""Bytes at the end of the heap, which any part of the process may use."""

IN_HEAP = 2**25
"""Bytes of a block up to which it lies in the heap: the most that glibc allows."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""What `mallopt` sets, as <malloc.h> numbers it."""


@functools.cache
def keep_freed_memory() -> None:
    """Sets the thresholds, where glibc is the allocator, unless the environment does."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return
    chosen = " ".join((*os.environ, os.environ.get("GLIBC_TUNABLES", ""))).lower()
    if any(f"malloc{sign}{name}_threshold" in chosen for sign in "_." for name in ("trim", "mmap")):
        return
    library.mallopt(M_MMAP_THRESHOLD, IN_HEAP)
    library.mallopt(M_TRIM_THRESHOLD, KEPT)
