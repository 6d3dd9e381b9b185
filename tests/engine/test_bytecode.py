"""Bytecode: the machine does what the functions of torch do, on blocks of any length."""

import math
from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.engine import _bytecode, _instructions, _kernels, _machine
from funcopt.engine._blocks import Block, Roles
from funcopt.engine._guards import Unsupported
from funcopt.engine._translation import translate

from .common import Run, gap, lowered_graphs, on_two_threads, parameters
from .test_every_chain import CASES


class Value(NamedTuple):
    value: torch.Tensor


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


ENGINES = ["eager", "fused"]
LENGTHS = [1, 7, 16, 255, 256, 257, 1500]


@pytest.fixture(autouse=True)
def bytecode(monkeypatch):
    if not _kernels.has_machine():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


class mapped(fo.TensorRule):
    """Keeps the value of any function of gradient and parameter, which stays as it is."""

    function: object
    scalar: fo.Scalar = 0.3
    elementwise = True

    def init_tensor(self, p):
        return Value(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        return torch.full_like(g, -0.0), Value(self.function(g, p, s.scalar))


def outcomes(lowered, columns, row, kernel_of=_kernels.BytecodeKernel):
    """What is written and measured by torch, and by a machine."""
    ours, theirs = ([x.clone() for x in columns] for _ in range(2))
    expected = lowered(theirs, row)
    kernel = kernel_of(lowered)
    block = Block([0], [[x] for x in ours], Roles(len(ours) - 2, False))
    tasks = block.tasks(((0,),), kernel.chunk)
    out = kernel(block, tasks, tuple(range(len(ours))), [row.tolist()])
    measured = [] if out is None else list(tasks.reduce_leaves(out, "sum")[0])
    return ours, theirs, measured, expected


def assert_rounded_alike(lowered, row, rtol, kernel_of=_kernels.BytecodeKernel):
    """What is written into tensors of every length, with special numbers among them."""
    for length in LENGTHS:
        columns = [values(length, x.dtype, seed) for seed, x in enumerate(lowered.inputs)]
        ours, theirs, _, _ = outcomes(lowered, columns, row, kernel_of)
        for x, y in zip(ours, theirs, strict=True):
            torch.testing.assert_close(x, y, rtol=rtol, atol=0.0, equal_nan=True)


def values(length, dtype, seed):
    """Numbers of every size, with those that are special among them."""
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-30, -3e30, 0.5]
    x = torch.randn(
        length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).exp()
    x[seed % 2 :: 2] *= -1
    for k, value in enumerate(special):
        x[(7 * k + seed) % length] = value
    return x.to(dtype)


FUNCTIONS = {
    "add": lambda g, p, s: g + p,
    "add_number": lambda g, p, s: g + 0.1,
    "add_alpha": lambda g, p, s: torch.add(g, p, alpha=0.7),
    "sub": lambda g, p, s: g - p,
    "sub_from": lambda g, p, s: 2.0 - g,
    "sub_alpha": lambda g, p, s: torch.sub(g, p, alpha=3),
    "mul": lambda g, p, s: g * p * s,
    "div": lambda g, p, s: g / p,
    "div_into": lambda g, p, s: s / g,
    "neg": lambda g, p, s: -g,
    "abs": lambda g, p, s: g.abs(),
    "square": lambda g, p, s: g.square(),
    "sqrt": lambda g, p, s: g.sqrt(),
    "rsqrt": lambda g, p, s: g.rsqrt(),
    "reciprocal": lambda g, p, s: g.reciprocal(),
    "sign": lambda g, p, s: g.sign(),
    "exp": lambda g, p, s: g.exp(),
    "expm1": lambda g, p, s: g.expm1(),
    "log": lambda g, p, s: g.log(),
    "log1p": lambda g, p, s: g.log1p(),
    "tanh": lambda g, p, s: g.tanh(),
    "sigmoid": lambda g, p, s: g.sigmoid(),
    "pow_2": lambda g, p, s: g**2,
    "pow_half": lambda g, p, s: g**0.5,
    "pow_3": lambda g, p, s: g.abs() ** 3.0,
    "pow_tensor": lambda g, p, s: g.abs() ** p,
    "maximum": lambda g, p, s: torch.maximum(g, p),
    "minimum": lambda g, p, s: torch.minimum(g, p),
    "max_of_two": lambda g, p, s: torch.max(g, p),
    "clamp": lambda g, p, s: g.clamp(-s, s),
    "clamp_low": lambda g, p, s: g.clamp(min=0.2),
    "clamp_high": lambda g, p, s: g.clamp_max(s),
    "clamp_tensors": lambda g, p, s: g.clamp(-p.abs(), p.abs()),
    "lerp": lambda g, p, s: torch.lerp(g, p, s),
    "lerp_far": lambda g, p, s: torch.lerp(g, p, 1 - s),
    "lerp_tensor": lambda g, p, s: torch.lerp(g, p, p.sigmoid()),
    "addcmul": lambda g, p, s: torch.addcmul(g, p, p, value=0.5),
    "addcdiv": lambda g, p, s: torch.addcdiv(g, g, p, value=-2.0),
    "where": lambda g, p, s: torch.where(g > p, g, p),
    "where_method": lambda g, p, s: g.where(g > p, p),
    "where_number": lambda g, p, s: torch.where(g.isnan(), s, p),
    "masked_fill": lambda g, p, s: g.masked_fill(p > 0, 0.5),
    "comparisons": lambda g, p, s: torch.where(
        g >= p, (g < 0).to(g.dtype), (g == 0).to(g.dtype) - 2
    ),
    "logic": lambda g, p, s: ((g > 0) & (p > 0) | ~(g != p)).to(g.dtype),
    "xor": lambda g, p, s: (g > 0).logical_xor(p > 0) * s,
    "finite": lambda g, p, s: g * g.isfinite(),
    "signbit": lambda g, p, s: g.signbit().to(g.dtype),
    "fill": lambda g, p, s: torch.full_like(g, 3.0) + torch.ones_like(p) * g,
    "bfloat16_inside": lambda g, p, s: g.to(torch.bfloat16).to(g.dtype),
    "float16_inside": lambda g, p, s: g.to(torch.float16).to(g.dtype),
    "float32_inside": lambda g, p, s: g.to(torch.float32).to(g.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_instruction_rounds_as_the_function_of_torch(monkeypatch, name, dtype):
    (lowered,) = lowered_graphs(monkeypatch, mapped(FUNCTIONS[name]), dtype)
    row = torch.linspace(0.1, 0.3, lowered.num_scalars, dtype=dtype)
    assert_rounded_alike(lowered, row, 16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_tensors_are_widened_and_rounded_once(monkeypatch, dtype):
    (lowered,) = lowered_graphs(monkeypatch, fo.adamw(0.1), dtype)
    row = torch.linspace(0.1, 0.3, lowered.num_scalars)
    assert_rounded_alike(lowered, row, torch.finfo(dtype).eps)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_sums_are_those_of_float64(monkeypatch, dtype, length):
    lowered, _ = lowered_graphs(monkeypatch, fo.clip_by_global_norm(1.0), dtype)
    columns = [torch.linspace(-3, 2, length).to(x.dtype) for x in lowered.inputs]
    row = torch.full((lowered.num_scalars,), 0.5, dtype=lowered.compute_dtype)
    _, _, measured, expected = outcomes(lowered, columns, row)
    for x, y in zip(measured, expected, strict=True):
        torch.testing.assert_close(x, y.double(), rtol=2e-7, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_machine_runs_every_pass_of_every_chain(monkeypatch, case, dtype):
    for lowered in lowered_graphs(monkeypatch, case.tx, dtype, case.extra):
        if not lowered.inputs:
            continue
        row = torch.linspace(0.1, 0.9, lowered.num_scalars, dtype=lowered.compute_dtype)
        columns = [
            torch.linspace(0.1 + k, 1.7, 700, dtype=torch.float64).to(x.dtype)
            for k, x in enumerate(lowered.inputs)
        ]
        ours, theirs, measured, expected = outcomes(lowered, columns, row)
        eps = 64 * torch.finfo(lowered.compute_dtype).eps
        for x, y in zip([*ours, *measured], [*theirs, *expected], strict=True):
            narrow = torch.finfo(x.dtype).eps if x.dtype.is_floating_point else 0.0
            torch.testing.assert_close(
                x.double(), y.double(), rtol=max(eps, narrow), atol=eps, equal_nan=True
            )


def test_groups_have_rows_of_their_own():
    """A thread computes what follows from scalars once for each row, not once for all."""
    found = []
    for engine in ENGINES:
        ps = [torch.nn.Parameter(torch.linspace(-1, 1, n).double()) for n in (12, 7, 10, 5)]
        groups = [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.3}]
        opt = fo.optim.AdamW(groups, lr=0.1, engine=engine)
        for t in range(5):
            for p in ps:
                p.grad = p.detach().sin() + t
            opt.step()
        assert opt.engine == engine
        found.append([p.detach() for p in ps])
    assert gap(*found) <= 1e-14


def test_all_threads_share_the_work():
    tx = fo.chain(fo.clip_by_global_norm(0.1), fo.adamw(0.1))
    assert gap(*on_two_threads(tx)) <= 2e-6


class largest(fo.TensorRule):
    """Divides by the largest entry of all, or by the smallest."""

    function: str
    elementwise = True

    def measure_tensor(self, g, slots, p, s):
        return getattr(g, self.function)()

    def conclude(self, s, memory, total):
        return {"total": total}, memory

    def update_tensor(self, g, slots, p, s):
        return g / s.total, slots


class largest_entry(largest):
    combine = "max"


class smallest_entry(largest):
    combine = "min"


def assert_extremes_are_found(tx, spoiled, lengths):
    """Also where an entry is NaN."""
    grads = {"a": torch.linspace(-3, 2, lengths[0]), "b": torch.linspace(-1, 7, lengths[1])}
    if spoiled is not None:
        grads["a"][spoiled] = torch.nan
    runs = [Run(tx, how, {k: torch.zeros_like(g) for k, g in grads.items()}) for how in ENGINES]
    for run in runs:
        run.step(grads)
    assert runs[1].engine.name == "fused"
    for x, y in zip(*(run.tensors() for run in runs), strict=True):
        torch.testing.assert_close(x, y, equal_nan=True)
        assert x.isnan().all() == (spoiled is not None) or not x.dim()


@pytest.mark.parametrize("spoiled", [None, 0, 699])
@pytest.mark.parametrize("tx", [largest_entry("amax"), smallest_entry("amin")], ids=str)
def test_the_largest_and_the_smallest_entry_are_found_and_a_nan_is_one(tx, spoiled):
    assert_extremes_are_found(tx, spoiled, (700, 900))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda g, p, s: torch.erfinv(g), "erfinv"),
        (lambda g, p, s: g.to(torch.bfloat16) * p.to(torch.bfloat16) * 1.0, "bfloat16"),
        (lambda g, p, s: g.to(torch.int32) * 1.0, "int32"),
        (lambda g, p, s: torch.div(g, p, rounding_mode="floor"), "rounding_mode"),
    ],
)
def test_what_has_no_instruction_is_refused_by_name(monkeypatch, function, words):
    (lowered,) = lowered_graphs(monkeypatch, mapped(function))
    with pytest.raises(Unsupported, match=words):
        _bytecode.assemble(translate(lowered))


def test_registers_are_used_again(monkeypatch):
    def long(g, p, s):
        for _ in range(300):
            g = (g + p) * 0.5
        return g

    (lowered,) = lowered_graphs(monkeypatch, mapped(long), torch.float64)
    tensors, scalars, constants, registers, *_ = _bytecode.assemble(translate(lowered)).head
    assert registers - tensors - scalars - constants <= 3
    with pytest.raises(Unsupported, match="registers"):
        _bytecode.assemble(translate(lowered)._replace(scalars=1000))


def test_a_new_value_is_written_where_it_belongs(monkeypatch):
    """No copies, where the old value is not needed any more."""
    (lowered,) = lowered_graphs(monkeypatch, fo.adamw(0.1))
    program = _bytecode.assemble(translate(lowered))
    codes = [_instructions.CODES[x] for x in program.code[:: _bytecode.WORDS]]
    assert "copy" not in codes


def test_two_slots_that_change_places_keep_their_values(monkeypatch):
    class swapping(fo.TensorRule):
        elementwise = True

        def init_tensor(self, p):
            return Pair(torch.zeros_like(p), torch.ones_like(p))

        def update_tensor(self, g, slots, p, s):
            return g, Pair(slots.second + 1, slots.first * 2)

    runs = [Run(swapping(), how, parameters()) for how in ("eager", "fused")]
    for _ in range(4):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) == 0.0


def test_a_machine_that_cannot_be_compiled_is_tried_once(monkeypatch, caplog):
    tried = []

    def broken(parts, source):
        tried.append(parts)
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_machine, "_failed", [])
    _machine._drivers.cache_clear()
    monkeypatch.setattr("funcopt.engine._libraries.load_library", broken)
    for tx in (fo.sgd(0.1), fo.lion(0.1), fo.adamw(0.1)):
        run = Run(tx, "fused", parameters())
        run.step()
        assert run.engine.name in ("eager", "torch")
    assert len(tried) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 1
    assert lines[0].endswith("could not be compiled (bytecode): RuntimeError: no such instruction")
    _machine._drivers.cache_clear()
