"""Calls of machine code that repeat a step, each in a few nanoseconds: the code is in `.cpp`.

They are functions of Python made without its headers: what they call is in its stable interface,
and is passed to them by address. So one library serves all versions of Python.
"""

import array
import ctypes
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from . import _identity

_files = [pathlib.Path(__file__).with_name(f"{x}.cpp") for x in ("_ready_call", "_known_trees")]

SOURCE = "".join(path.read_text(encoding="utf-8") for path in _files)
"""Part of every library, as that of `_identity` is."""

Call = Callable[..., Any]

FUNCTIONS = (
    *("PyList_GetItem", "PyList_Size", "PyDict_Next", "PyObject_GetAttr", "PyObject_Call"),
    *("PyTuple_New", "PyTuple_SetItem", "PyTuple_GetItem", "PyTuple_Size", "PyList_New"),
    *("PyList_SetItem", "PyDict_New", "PyDict_Size", "PyDict_GetItemWithError", "PyDict_SetItem"),
    *("PyObject_Type", "Py_IncRef", "Py_DecRef", "PyErr_Clear"),
    *("PyEval_SaveThread", "PyEval_RestoreThread", "PyLong_AsVoidPtr"),
)
"""What the code calls of Python, in its order."""

OBJECTS = (None, True, False, "grad")
"""Objects that it compares with, or passes on."""

NO_ARGUMENTS, ONE_ARGUMENT = 0x0004, 0x0008  # METH_NOARGS, METH_O


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_methods: dict[str, _Method] = {}  # which functions of Python refer to

_function: Any = ctypes.pythonapi["PyCFunction_NewEx"]  # an object of its own, whose type is set
_function.restype = ctypes.py_object


def provide(path: pathlib.Path) -> None:
    """Uses the machine code of a library from now on."""
    if _methods or (data_ptr := _identity.data_ptr()) is None:
        return
    library = ctypes.PyDLL(str(path))
    found = [_address(getattr(ctypes.pythonapi, name)) for name in FUNCTIONS]
    table = array.array("q", [*found, data_ptr, *map(id, OBJECTS)])
    library.ready_begin(ctypes.c_void_p(table.buffer_info()[0]))
    for name in ("same", "load", "release", "count", "launch", "conclude", "take", "give"):
        function = _address(getattr(library, f"ready_{name}"))
        kind = ONE_ARGUMENT if name in ("take", "give") else NO_ARGUMENTS
        _methods[name] = _Method(name.encode(), function, kind, None)


def repeats_steps() -> bool:
    """Whether there is machine code that repeats steps."""
    return bool(_methods)


class Words:
    """Numbers and addresses that machine code reads as a structure, with what lies behind them."""

    def __init__(self, *words: Any) -> None:
        self._parts = list(words)
        self._words = array.array("q", map(_word, words))

    def replace(self, at: int, *words: Any) -> None:
        """Uses others from this one on."""
        for k, x in enumerate(words, at):
            self._parts[k], self._words[k] = x, _word(x)

    def __setitem__(self, at: int, word: int) -> None:
        self._words[at] = word

    @property
    def address(self) -> int:
        """Where they begin."""
        return self._words.buffer_info()[0]

    def call(self, name: str) -> Call:
        """A function of machine code, of these words."""
        found: Call = _function(ctypes.byref(_methods[name]), ctypes.py_object(self.address), None)
        return found


def _word(x: Any) -> int:
    if isinstance(x, array.array):
        return x.buffer_info()[0]
    return x.address if isinstance(x, Words) else int(x)


def objects(them: Sequence[Any]) -> "array.array[int]":
    """The addresses of objects, which the caller has to keep."""
    return array.array("q", map(id, them))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
