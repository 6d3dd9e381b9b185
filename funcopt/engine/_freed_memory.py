"""Memory that is freed between two steps stays with the process, up to 64 MB.

What malloc gives back to the system comes back at a page fault a page. That of glibc gives back
what is free at the end of its heap beyond twice the largest block that it once got for itself and
gave back, if that had at most 32 MB: so of a model of many layers nearly all, in every step.
"""

import ctypes
import functools
import sys

MOST = 2**25 - 2**16
"""Bytes of a block that is such a measure, nearly the largest."""


@functools.cache
def keep_freed_memory() -> None:
    """Gets such a block, and frees it, untouched: so none of its pages was ever there."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.free(library.malloc(MOST))
