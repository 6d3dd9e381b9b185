"""Kernels of Triton, for GPUs: a lowered graph is printed as one kernel for a whole pass."""

from ._kernel import TritonKernel as TritonKernel
