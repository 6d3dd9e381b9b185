"""Native code of a lowered graph: one loop over memory, driven over tables of pointers.

The loop is what Inductor writes for one vector; around it comes a driver that runs it over pieces
of all tensors, on all threads. This is the only file that knows what Inductor's code looks like.
Code that it does not expect is refused, and then the graph runs by another kernel.
"""

import ctypes
import re
import threading
from typing import Any

import torch
from torch import Tensor

from . import _libraries
from ._guards import Unsupported
from ._lowering import LoweredGraph

VERSION = 4
"""Of how the template below is filled in; part of the key of the cache, as the template is."""

EXAMPLE_LENGTH = 1009
"""The length of the vectors that a graph is compiled for; it is not part of the result."""

_replacing = threading.RLock()
"""Held while a method of Inductor is replaced: two threads would put it back in the wrong order."""

C_TYPES = {torch.float32: "float", torch.float64: "double"}

DRIVER = """
#include <algorithm>

extern "C" void drive(
    const int64_t tasks, const int64_t* table, const int64_t* pointers, const int64_t leaves,
    const {row_type}* rows, const int64_t* row_of, double* out, const int64_t threads) {{
  const int64_t grain = std::max<int64_t>(1, tasks / (threads * 16));
  #pragma omp parallel for schedule(dynamic, grain) num_threads(threads) if (threads > 1)
  for (int64_t t = 0; t < tasks; t++) {{
    const int64_t leaf = table[3 * t], from = table[3 * t + 1], length = table[3 * t + 2];
    {row_type}* row = const_cast<{row_type}*>(rows) + row_of[leaf] * {entries};
    (void)row; (void)from;
{before}
    one_leaf({arguments});
{after}
  }}
}}
"""


def load_or_compile(lowered: LoweredGraph) -> Any:
    """The driver for a lowered graph, from the cache on disk if it is there.

    Raises:
        Unsupported: If its code is not one loop without memory of its own.
    """
    drive = _libraries.load_library(_parts(lowered), lambda: _source(lowered)).drive
    drive.restype = None
    address, count = ctypes.c_void_p, ctypes.c_int64
    drive.argtypes = [count, address, address, count, address, address, address, count]
    return drive


def is_cached(lowered: LoweredGraph) -> bool:
    """Whether it has been compiled before, on this machine."""
    return _libraries.is_compiled(_parts(lowered))


def _parts(lowered: LoweredGraph) -> tuple[object, ...]:
    return VERSION, DRIVER, lowered.text()


def _source(lowered: LoweredGraph) -> str:
    """The C++ code of the loop over one vector, and of its driver."""
    tensors, row = example_inputs(lowered)
    kernels, calls, measured = _capture(lowered, tensors, row)
    if len(kernels) != 1 or len(calls) != 1:
        raise Unsupported(f"{len(kernels)} loops over memory where one was expected")
    (types, body), given = kernels[0], calls[0]
    body = "\n".join(line for line in body.splitlines() if "integer_div_error" not in line)
    body, found = re.subn(r'extern "C"\s+void\s+kernel\(', "static inline void one_leaf(", body)
    if found != 1 or "integer_div" in body or "#pragma omp" in body or len(types) != len(given):
        raise Unsupported("a loop of another form than expected")
    inputs: dict[Any, Any] = {x.data_ptr(): i for i, x in enumerate(tensors)}
    results = {x.data_ptr(): i for i, x in enumerate(measured)}
    arguments, before, after, seen = [], [], [], set()
    for kind, x in zip(types, given, strict=True):
        kind = kind.removeprefix("const ").strip()
        if not isinstance(x, Tensor):
            if x != EXAMPLE_LENGTH:
                raise Unsupported(f"a loop with the argument {x}")
            arguments.append("length")
        elif x.data_ptr() in inputs:
            i = inputs[x.data_ptr()]
            arguments.append(f"reinterpret_cast<{kind}>(pointers[{i} * leaves + leaf]) + from")
        elif x.data_ptr() == row.data_ptr():
            arguments.append("row")
        elif x.data_ptr() in results:
            i = results[x.data_ptr()]
            seen.add(i)
            before.append(f"    {kind.rstrip('*')} sum{i} = 0;")
            after.append(f"    out[t * {len(measured)} + {i}] = static_cast<double>(sum{i});")
            arguments.append(f"&sum{i}")
        else:
            raise Unsupported("a loop that takes memory of its own")
    if len(seen) != len(measured):
        raise Unsupported("a reduction that is not part of the loop")
    return body + DRIVER.format(
        row_type=C_TYPES[lowered.compute_dtype],
        entries=lowered.num_scalars,
        arguments=", ".join(arguments),
        before="\n".join(before),
        after="\n".join(after),
    )


def example_inputs(
    lowered: LoweredGraph, device: torch.device | str = "cpu"
) -> tuple[list[Tensor], Tensor]:
    if lowered.compute_dtype not in C_TYPES:
        raise Unsupported(f"the compute dtype {lowered.compute_dtype}")
    tensors = [torch.ones(EXAMPLE_LENGTH, dtype=x.dtype, device=device) for x in lowered.inputs]
    return tensors, torch.ones(lowered.num_scalars, dtype=lowered.compute_dtype, device=device)


def _capture(
    lowered: LoweredGraph, tensors: list[Tensor], row: Tensor
) -> tuple[list[Any], list[Any], tuple[Tensor, ...]]:
    """The code of Inductor, and the arguments of its call, which show what each of them is.

    For that, a method of Inductor is replaced meanwhile: by one thread after the other, and for
    that thread alone.
    """
    from torch._inductor import async_compile

    kernels: list[Any] = []
    calls: list[Any] = []
    compiler: Any = async_compile.AsyncCompile
    mine = threading.get_ident()

    def kept(self: Any, types: list[str], source: str) -> Any:
        if threading.get_ident() != mine:  # another thread compiles its own code
            return written(self, types, source)
        kernels.append((types, source))
        return lambda *given: calls.append(given)

    with _replacing:
        written = compiler.cpp_pybinding
        compiler.cpp_pybinding = kept
        try:
            torch._dynamo.mark_static(row)
            # Options of this compilation, which another thread that compiles does not see.
            options: dict[str, Any] = {"cpp.threads": 1, "fx_graph_cache": False}
            with torch.no_grad():
                function = torch.compile(
                    lowered.module(), dynamic=True, fullgraph=True, options=options
                )
                measured = function(*tensors, row)
        finally:
            compiler.cpp_pybinding = written
    return kernels, calls, measured
