"""Libraries of machine code: compiled from C++ once, kept on disk, and loaded with `ctypes`."""

import contextlib
import ctypes
import functools
import hashlib
import pathlib
import platform
import secrets
from collections.abc import Callable, Sequence

import torch

from . import _identity, _kept_files, _ready_call

OBJECTS = _identity.SOURCE + _ready_call.SOURCE
"""The code about objects of Python, which all libraries have."""


def load_library(parts: Sequence[object], source: Callable[[], str]) -> ctypes.CDLL:
    """The library for these `parts`, from the cache on disk if it is there.

    Args:
        parts: What its code depends on, other than torch and the machine.
        source: Writes its code, to which that of `_identity` and of `_ready_call` is added.
    """
    key = key_of(parts)
    path = _kept_files.find(key)
    if path is None:
        with _kept_files.one_process(key):  # of those on this machine; the others wait for its file
            path = _kept_files.find(key)
            if path is None:
                path = _kept_files.keep(key, _machine_code(source() + OBJECTS))
    library = ctypes.CDLL(str(path))
    _identity.load(path)
    _ready_call.provide(path)
    return library


def is_compiled(parts: Sequence[object]) -> bool:
    """Whether it has been compiled before, on this machine."""
    return _kept_files.is_kept(key_of(parts))


def _machine_code(source: str) -> bytes:
    from torch._inductor.codecache import CppCodeCache

    # Made again: what lies in the cache of Inductor may be damaged too, or be of others.
    library = CppCodeCache.load(f"{source}\n// {secrets.token_hex(16)}\n")
    path = pathlib.Path(library._name)
    code = path.read_bytes()
    for made in path.parent.glob(f"{path.stem}.*"):
        with contextlib.suppress(OSError):  # where it is loaded, it may have to stay
            made.unlink()
    return code


def key_of(parts: Sequence[object]) -> str:
    """The name of a file for these parts, of this torch and this computer."""
    all_parts = (OBJECTS, *parts, torch.__version__, torch.version.git_version, _machine())
    return hashlib.sha256("\n".join(map(str, all_parts)).encode()).hexdigest()[:32]


@functools.cache
def _machine() -> str:
    """The properties of the machine that native code depends on."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {flags}"
