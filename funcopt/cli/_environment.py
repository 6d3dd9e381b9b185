"""What runs here: versions, devices, the compiler, the engine, the cache."""

import importlib.metadata
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .. import optim
from .._core.explanation import Row, Table
from ._cache import kept

PACKAGES = ("funcopt", "torch", "optree", "triton", "numpy", "matplotlib", "tqdm", "pandas")

WHY = {
    "fused": "all stages of a chain in one pass over memory, and one more for a global norm",
    "compiled": "machine code for each chain",
    "torch": "the fused kernel of torch",
    "foreach": "each operation once for all tensors",
    "eager": "each operation for each tensor",
}
"""How the engines make a step of AdamW."""


def environment() -> str:
    """A table of what a report of a fault should have."""
    rows = [
        *((name, _version(name)) for name in PACKAGES),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"{platform.platform()}, {platform.machine()}"),
        ("processor", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"),
        ("threads", f"{torch.get_num_threads()} of PyTorch"),
        ("C++ compiler", _compiler()),
        *_devices(),
    ]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows += [(f"steps on {device}", _engine(device)) for device in devices]
    rows.append(("compiled code", str(kept())))
    return Table("", ("", ""), [Row(row) for row in rows]).text().lstrip("\n")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _compiler() -> str:
    """The compiler that torch would call, and its version."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        path = get_cpp_compiler()
        out = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        return f"{path}: {out.stdout.splitlines()[0]}"
    except Exception as error:  # whatever a compiler may find
        return f"none ({type(error).__name__}): install one, or set CXX"


def _devices() -> Iterator[tuple[str, str]]:
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        yield f"cuda:{i}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "mps", "available"


def _engine(device: str) -> str:
    """Which engine has made a step of AdamW, and why."""
    p = torch.nn.Parameter(torch.ones(8, device=device))
    opt = optim.AdamW([p])
    p.grad = torch.ones_like(p)
    with _log() as said:
        opt.step()
    asked = os.environ.get("FUNCOPT_ENGINE")
    by = f"as FUNCOPT_ENGINE={asked} asks" if asked else 'chosen by engine="auto"'
    return "; ".join([f"{opt.engine}, {by}: {WHY[opt.engine]}", *said])


@contextmanager
def _log() -> Iterator[list[str]]:
    """The lines that the engine writes to the log within the context."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("funcopt"), Kept()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
