"""Compiles kernels for a GPU that need not be there, and prints what their machine code has.

Run in a process of its own, in which Triton compiles: ``TRITON_INTERPRET=0 python -m ...``.
"""

import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import funcopt as fo
from funcopt.engine import _conclusion, _tracer
from funcopt.engine._guards import Unsupported
from funcopt.engine._translation import translate
from funcopt.engine.triton import _kernel, _launch
from funcopt.engine.triton._source import pass_source

from .common import Run, parameters, softened
from .test_bytecode import FUNCTIONS, mapped
from .test_every_chain import CASES


def passes(tx, dtype):
    """The lowered graphs of a chain."""
    os.environ["FUNCOPT_KERNELS"] = "interpreted"
    found, known = [], _tracer.kernel_for

    def kept(lowered, *where):
        found.append(lowered)
        return known(lowered, *where)

    _tracer.kernel_for = kept
    try:
        Run(tx, "fused", parameters(dtype)).step()
    finally:
        _tracer.kernel_for = known
    return found


def compiled(source, names, kinds, target):
    """Machine code of a kernel, for a target."""
    options = {key: value for key, value in _launch.options().items() if key != "BLOCK"}
    signature = dict(zip(names, kinds, strict=True))
    made = ASTSource(_launch.function_of(source), signature, {"BLOCK": _launch.BLOCK})
    return triton.compile(made, target=target, options=options)


def compiled_pass(lowered, target):
    listing = translate(lowered)
    names = ["TASKS", "TABLE", *(["OUT"] if listing.measures else []), "leaves", "BLOCK"]
    kinds = ["*i64", "*i64", *(["*fp64"] if listing.measures else []), "i32", "constexpr"]
    return compiled(pass_source(listing), names, kinds, target)


NVIDIA = GPUTarget("cuda", 90, 32)
OTHERS = {
    GPUTarget("cuda", 80, 32): ["ld.global.v4"],
    GPUTarget("cuda", 100, 32): ["ld.global.v4"],
    GPUTarget("hip", "gfx942", 64): ["global_load_dwordx4"],
    GPUTarget("hip", "gfx1100", 32): ["global_load_b128"],
}
"""What accesses of 128 bit are called there."""


def facts(lowered):
    """Registers, stack, and the accesses of the loop over aligned entries."""
    listing, made = translate(lowered), compiled_pass(lowered, NVIDIA)
    tools = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage, sass = (
            subprocess.run([*command, file.name], capture_output=True, text=True, check=True).stdout
            for command in ([tools / "cuobjdump", "-res-usage"], [tools / "nvdisasm"])
        )
    registers, stack = (int(re.search(rf"{x}:(\d+)", usage)[1]) for x in ("REG", "STACK"))
    body = fast_loop(sass)
    accesses = collections.Counter(re.findall(r"\b(?:LDG|STG)\.E(?:\.\w+)*", "\n".join(body)))
    used = {x.number for one in listing.body for x in one.args if x.kind == "tensor"}
    used |= {x.number for _, x in listing.writes if x.kind == "tensor"}
    used |= {x.register.number for x in listing.measures if x.register.kind == "tensor"}
    wide = [x.dtype.itemsize * _launch.BLOCK // (32 * _launch.WARPS) // 16 for x in listing.tensors]
    return {
        "inexact": re.findall(r"\b(?:div|sqrt|rsqrt|rcp)\.(?:full|approx)[.\w]*", made.asm["ptx"]),
        "registers": registers,
        "stack": stack,
        "accesses": dict(accesses),
        "loads": sum(wide[k] for k in used),
        "stores": sum(wide[k] for k, _ in listing.writes),
    }


def fast_loop(sass):
    """The instructions of the innermost loop with wide accesses."""
    lines, labels = [], {}
    for line in sass.splitlines():
        if label := re.match(r"^\s*\.(L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            lines.append(instruction[1])
    for i, line in enumerate(lines):
        back = re.search(r"BRA.*`\(\.(L_x_\d+)\)", line)
        begin = labels.get(back[1], i + 1) if back else i + 1
        if begin <= i and any(".E.128" in x or ".128" in x for x in lines[begin:i]):
            return lines[begin : i + 1]
    return []


CHAINS = {
    "AdamW": fo.adamw(1e-3),
    "clip, AdamW, EMA": fo.chain(
        fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.99)
    ),
    "Lion": fo.lion(1e-4),
    "of somebody else": fo.chain(softened(), fo.scale_by_learning_rate(0.1)),
}


def everything(g, p, s):
    """All functions that have an instruction."""
    return sum(function(g, p, s) for function in FUNCTIONS.values())


def conclusions():
    """The kernels of all stages that conclude, with the dtypes of their results."""
    found = {}

    def kept(cases, *given):
        kernel = cases[0][1].kernel
        found[kernel.source] = kernel.dtypes
        raise Unsupported("not to be run")

    os.environ["FUNCOPT_KERNELS"] = "triton"
    known, _conclusion.Conclusion = _conclusion.Conclusion, kept
    try:
        for case in CASES:
            with contextlib.suppress(RuntimeError):  # no kernel can be launched
                params = {"x": torch.empty(3, device="meta")}
                Run(case.tx, "auto", params, case.extra).step(params)
    finally:
        _conclusion.Conclusion = known
    return found


def compiled_conclusion(source, dtypes):
    names = ["PARTS", "RANGES", "TABLE", *(f"V{k}" for k in range(len(dtypes))), "BLOCK"]
    kinds = ["*fp64", "*i64", "*i64", *(POINTERS[dtype] for dtype in dtypes), "constexpr"]
    return compiled(source, names, kinds, NVIDIA)


def joined_kernels():
    """Launches of scalars that are one, with the names and dtypes of their arguments."""
    found, known = {}, _launch.joined

    def kept(placed):
        call, table = known(placed)
        counts = [len(one.before) + 1 + len(one.after) for one, _ in placed]
        names = [f"P{k}_{j}" for k, count in enumerate(counts) for j in range(count)]
        kinds = [POINTERS[x.dtype] for x in (*call.before, table, *call.after)]
        found[call.function] = names, kinds
        return call, table

    launched = _launch._run
    _launch.joined, _launch._run = kept, lambda call, table, device: None
    os.environ["FUNCOPT_KERNELS"] = "triton"
    try:
        for tx in (CHAINS["clip, AdamW, EMA"], fo.skip_if(fo.adamw(1e-3))):
            p = torch.nn.Parameter(torch.empty(99_999, device="meta"))
            opt = fo.Optimizer([p], tx, capturable=True)
            for _ in range(2):
                p.grad = torch.empty_like(p)
                opt.step()
    finally:
        _launch.joined, _launch._run = known, launched
    return found


def accesses_of_joined(function, names, kinds):
    """The order of loads, stores and barriers: L, S and B."""
    options = {key: value for key, value in _launch.options().items() if key != "BLOCK"}
    signature = dict(zip([*names, "BLOCK"], [*kinds, "constexpr"], strict=True))
    made = ASTSource(function, signature, {"BLOCK": _launch.BLOCK})
    text = triton.compile(made, target=NVIDIA, options=options).asm["ptx"]
    words = re.findall(r"\b(ld\.global|st\.global|bar\.sync)", text)
    return "".join({"l": "L", "s": "S", "b": "B"}[word[0]] for word in words)


class Driver:
    """Stands for that of a device, as far as kernels are compiled and not launched."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return NVIDIA


def times_compiled(lowered):
    """How often a kernel is compiled: when made, and for other numbers and places of tensors."""
    triton.runtime.driver.set_active(Driver())
    _kernel.on = lambda device: contextlib.nullcontext()
    function = _kernel.TritonKernel(lowered, torch.device("cuda"))._function
    made = len(function.device_caches[0][0])
    table = torch.zeros(100, dtype=torch.int64)
    for place in (table, table[1:]):
        for leaves in (1, 2, 16, 148):
            function.warmup(table, place, leaves, grid=(1,), **_launch.options())
    return made, len(function.device_caches[0][0])


POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}

if __name__ == "__main__":
    found = {
        f"{name}, {dtype}, pass {k}": facts(lowered)
        for name, tx in CHAINS.items()
        for dtype in (torch.float32, torch.bfloat16)
        for k, lowered in enumerate(passes(tx, dtype))
    }
    for dtype in (torch.float32, torch.float64):
        (lowered,) = passes(mapped(everything), dtype)
        found[f"all functions, {dtype}"] = facts(lowered)
    others = {}
    (adamw,) = passes(fo.adamw(1e-3), torch.float32)
    for target, words in OTHERS.items():
        assembly = "".join(map(str, compiled_pass(adamw, target).asm.values()))
        others[str(target)] = sum(assembly.count(word) for word in words)
    concluded = [compiled_conclusion(*one) for one in conclusions().items()]
    facts_found = {
        "passes": found,
        "others": others,
        "concluded": len(concluded),
        "joined": [accesses_of_joined(one, *given) for one, given in joined_kernels().items()],
        "compiled": times_compiled(adamw),
    }
    print(json.dumps(facts_found))
