"""Kernels of Triton on a CPU, by its interpreter."""

import contextlib

import numpy
import torch
import triton.language as tl
from triton.runtime import interpreter

from funcopt.engine import _kernels, triton
from funcopt.engine.triton import _launch

converted = interpreter._convert_float


def rounded_to_nearest(x, given, wanted, mode):
    """As on devices: the interpreter cuts bfloat16 off."""
    if (given, wanted) != (tl.float32, tl.bfloat16):
        return converted(x, given, wanted, mode)
    return torch.from_numpy(x).bfloat16().view(torch.int16).numpy().view(numpy.uint16)


@contextlib.contextmanager
def by_triton(monkeypatch, block=16, piece=48):
    """Kernels are Triton's, in pieces so small that tensors have several, of several turns."""
    assert _launch.is_interpreted(), "set before Triton was imported, in tests/conftest.py"
    monkeypatch.setenv("FUNCOPT_KERNELS", "triton")
    monkeypatch.setattr(_launch, "BLOCK", block)
    monkeypatch.setattr(triton.TritonKernel, "chunk", piece)
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(interpreter, "_convert_float", rounded_to_nearest)
    with numpy.errstate(all="ignore"):  # by which the interpreter computes
        yield
