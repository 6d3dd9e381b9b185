"""Identity guards on many objects: addresses of tensors, elements of lists, values of dicts.

A step that is traced once relies on thousands of objects being the same as before. Machine code
compares them in a few nanoseconds each, without touching the objects; until it is loaded, Python
does.
"""

import array
import ctypes
import functools
import itertools
import operator
import pathlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

MIN_COUNT = 64
"""From so many objects on, machine code is faster than Python."""

SOURCE = """
#include <cstddef>
#include <cstdint>

extern "C" {

typedef void* (*Item)(void*, ptrdiff_t);                 // PyList_GetItem
typedef int (*Next)(void*, ptrdiff_t*, void**, void**);  // PyDict_Next

void find(void* (*data_ptr)(void*), Item item, void* tensors, int64_t count, void** where) {
  for (int64_t i = 0; i < count; i++) {
    try {
      where[i] = data_ptr(item(tensors, i));
    } catch (...) {  // it has no memory
      where[i] = nullptr;
    }
  }
}

int64_t same(Item item, void* ones, void* others, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (item(ones, i) != item(others, i)) return 0;
  return 1;
}

int64_t hold(Next next, Item item, void* dicts, int64_t count, void* values, int64_t total) {
  int64_t seen = 0;
  for (int64_t i = 0; i < count; i++) {
    void *dict = item(dicts, i), *key, *value;
    for (ptrdiff_t at = 0; next(dict, &at, &key, &value); seen++)
      if (seen == total || item(values, seen) != value) return 0;
  }
  return seen == total;
}

}
"""
"""Part of every library, so it is compiled with the first one."""


def addresses(tensors: list[Tensor]) -> "array.array[int]":
    """The addresses of tensors in memory."""
    if _find is None or len(tensors) < MIN_COUNT:
        return array.array("q", map(Tensor.data_ptr, tensors))
    found = array.array("q", bytes(8 * len(tensors)))
    _find(tensors, len(tensors), found.buffer_info()[0])
    return found


def identical(ones: list[Any], others: list[Any]) -> bool:
    """Whether two lists hold the same objects, in the same order."""
    if len(ones) != len(others):
        return False
    lists = isinstance(ones, list) and isinstance(others, list)  # users may set a tuple
    if _same is None or len(ones) < MIN_COUNT or not lists:
        return all(map(operator.is_, ones, others))
    return bool(_same(ones, others, len(ones)))


def dicts_hold(dicts: list[dict[Any, Any]], values: list[Any]) -> bool:
    """Whether the values of all dicts, in order, are these objects."""
    if _hold is None or len(values) < MIN_COUNT:
        found = itertools.chain.from_iterable(map(dict.values, dicts))
        return sum(map(len, dicts)) == len(values) and all(map(operator.is_, found, values))
    return bool(_hold(dicts, len(dicts), values, len(values)))


_find: Callable[..., Any] | None = None
_same: Callable[..., Any] | None = None
_hold: Callable[..., Any] | None = None


def reads_addresses() -> bool:
    """Whether machine code that reads the addresses of tensors is loaded."""
    return _find is not None


def load(path: pathlib.Path) -> None:
    """Uses the machine code of a library from now on."""
    global _find, _same, _hold
    library = ctypes.PyDLL(str(path))  # which keeps the GIL
    address, count, objects = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
    item, after = map(_address, (ctypes.pythonapi.PyList_GetItem, ctypes.pythonapi.PyDict_Next))
    library.same.argtypes = [address, objects, objects, count]
    library.same.restype = count
    _same = functools.partial(library.same, item)
    library.hold.argtypes = [address, address, objects, count, objects, count]
    library.hold.restype = count
    _hold = functools.partial(library.hold, after, item)
    if (begin_of := data_ptr()) is not None:
        library.find.argtypes = [address, address, objects, count, address]
        library.find.restype = None
        _find = functools.partial(library.find, begin_of, item)


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def data_ptr() -> int | None:
    """The function by which the code of Inductor reads the address of a tensor.

    It is no public part of torch. Without it, Python reads them, which takes 20 times as long.
    """
    from torch._C._dynamo import guards

    found = getattr(guards, "_torchinductor_pyobject_tensor_data_ptr", None)
    return found if isinstance(found, int) else None
