"""Machine code: one loop over memory for a pass, the same for every number and every shape."""

import collections
import logging
import re
from typing import NamedTuple

import numpy
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import funcopt as fo
from funcopt import tree
from funcopt.engine import _kernels, _machine, _native
from funcopt.engine._calls import Input
from funcopt.engine._guards import Unsupported
from funcopt.engine._translation import Listing, Register, translate

from .common import Run, gap, gradients, lowered_graphs, on_two_threads, parameters, watched
from .test_bytecode import FUNCTIONS, assert_rounded_alike

CLIPPED = fo.chain(fo.clip_by_global_norm(0.1), fo.adamw(fo.linear_schedule(0.1, 0.0, 50)))


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    if not _kernels.has_compiler():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_compiled_steps_are_those_of_the_eager_engine(dtype):
    runs = [Run(CLIPPED, how, parameters(dtype)) for how in ("eager", "fused")]
    for _ in range(5):
        for run in runs:
            run.step()
    eager, fused = (run.tensors() for run in runs)
    assert runs[1].engine.name == "fused"
    limit = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 2**-7}[dtype]
    assert gap(eager, fused) <= limit


@pytest.mark.parametrize("number", [numpy.float32, numpy.float64, numpy.int64])
def test_numbers_of_numpy_are_numbers(number):
    tx = fo.adamw(number(1), betas=(numpy.float32(0.5), 0.75), weight_decay=number(0))
    runs = [Run(tx, how, parameters()) for how in ("eager", "fused")]
    for _ in range(5):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-12


def without_memory(params):
    """Gradients of which one is zeros, as autograd makes them where nothing depends on it."""
    grads = {name: p.sin() for name, p in params.items()}
    return {**grads, "c": torch._efficientzerotensor(params["c"].shape, dtype=params["c"].dtype)}


@pytest.mark.parametrize("before", [0, 2])
def test_zeros_without_memory_are_no_input_of_machine_code(before):
    runs = [Run(CLIPPED, how, parameters()) for how in ("eager", "fused")]
    for run in runs:
        for _ in range(before):
            run.step()
        run._form = object()
        for _ in range(2):
            run.step(without_memory(run.params))
    assert runs[1].engine.name == "fused"  # of the other tensors
    assert gap(*(run.tensors() for run in runs)) <= 1e-14


def test_an_optimizer_sees_zeros_without_memory():
    found = []
    for engine in ("eager", "torch", "fused"):
        params = parameters()
        opt = fo.Optimizer(params.values(), fo.adamw(0.1), engine=engine)
        for zero in (False, True, False):
            for p, g in zip(params.values(), without_memory(params).values(), strict=True):
                p.grad = g if zero else p.cos()
            opt.step()
        assert opt.engine == engine
        found.append(list(params.values()))
    assert gap(found[0], found[1]) <= 1e-14
    assert gap(found[0], found[2]) <= 1e-14


def test_a_pure_update_sees_zeros_without_memory():
    tx, params = fo.adamw(0.1), parameters()
    state = tx.init(params)
    found = []
    for engine in ("eager", "fused"):
        with watched(engine) as by_kernels:
            for grads in (gradients(params, 0), without_memory(params)):
                updates, after = tx.update(grads, state, params)
        assert by_kernels == [engine == "fused", False]
        found.append(tree.leaves((updates, after)))
    assert gap(*found) <= 1e-14


@pytest.mark.parametrize(
    ("tx", "dtype"),
    [(CLIPPED, torch.float32), (CLIPPED, torch.bfloat16), (fo.lamb(0.1), torch.float64)],
    ids=["clipped", "bfloat16", "lamb"],
)
def test_pure_updates_are_those_of_the_operations(tx, dtype):
    found = []
    for engine in ("eager", "fused"):
        params = parameters(dtype)
        params["e"] = params["e"].t().contiguous().t()
        state = tx.init(params)
        with watched(engine) as by_kernels:
            for t in range(4):
                grads = {**gradients(params, t), "f": None}
                given = tree.leaves((params, grads, state))
                before = [x.clone() for x in given]
                updates, state = tx.update(grads, state, params)
                params = fo.apply_updates(params, updates)
                assert all(map(torch.equal, given, before))
        assert by_kernels == [engine == "fused"] * 4
        found.append(tree.leaves((params, updates, state)))
    limit = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 2**-7}[dtype]
    assert gap(*found) <= limit


def test_machine_code_makes_no_update_that_derivatives_are_taken_of():
    tx, params = fo.adamw(0.1, eps=1e-3), parameters()
    state, grads = tx.init(params), gradients(params, 0)
    leaf = params["a"].clone().requires_grad_()
    expected, _ = tx.update(grads, state, {**params, "a": leaf})
    with watched() as by_kernels:
        with torch.no_grad():
            tx.update(grads, state, params)
            constant, _ = tx.update(grads, state, {**params, "a": leaf})
        followed, _ = tx.update(grads, state, {**params, "a": leaf})
    assert by_kernels == [True, True, False]
    assert gap([constant["a"]], [expected["a"].detach()]) <= 1e-14
    slopes = [torch.autograd.grad(x["a"].sum(), leaf)[0] for x in (followed, expected)]
    assert torch.equal(*slopes)


def test_large_tensors_are_cut_into_tasks_for_all_threads():
    assert gap(*on_two_threads(CLIPPED)) <= 2e-6


def printed(lowered):
    """What is printed for a pass, without the functions that all passes call."""
    source = _native.source(translate(lowered))
    return source.removeprefix(_machine.OPERATIONS)


def test_a_chain_of_elementwise_rules_is_one_loop_without_memory_of_its_own(monkeypatch):
    (lowered,) = lowered_graphs(monkeypatch, fo.adamw())
    (body,) = re.findall(r"const auto unit = .*?\n  };", printed(lowered), re.DOTALL)
    assert body.count("for (") == 1
    assert "UNIT]" not in body  # no array
    for column in range(len(lowered.inputs)):
        assert len(re.findall(rf"loadu\(x{column} \+ i\)", body)) == 1
    assert len(re.findall(r"\.store\(x\d \+ i\)", body)) == len(lowered.writes) == 3


def test_what_sees_a_block_ends_a_loop(monkeypatch):
    """Codes of both slots need the largest entry of their block: a loop before it, one after."""
    tx = fo.quantized(fo.adamw(), "8bit", min_size=1)
    graphs = lowered_graphs(monkeypatch, tx, torch.float32)
    lowered = next(graph for graph in graphs if any(x.per > 1 for x in graph.inputs))
    (body,) = re.findall(r"const auto unit = .*?\n  };", printed(lowered), re.DOTALL)
    before, first, last = body.split("for (")
    assert "all_decoded" in before
    assert "all_block_amax_256" in first  # after its end
    assert "op_encoded" in last


MEASURED = {
    "of each": fo.lamb(0.1),
    "counted": fo.cautious(fo.adamw(0.1)),
    "a flag": fo.skip_if(fo.sgd(0.1), fo.norm_outlier()),
    "many": fo.prodigy(),
}


@pytest.mark.parametrize("tx", MEASURED.values(), ids=MEASURED)
def test_what_is_measured_is_machine_code_too(tx, caplog):
    with caplog.at_level(logging.WARNING, "funcopt"):
        runs = [Run(tx, how, parameters(torch.float32)) for how in ("eager", "fused")]
        for _ in range(3):
            for run in runs:
                run.step()
    assert not caplog.records
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 2e-5


def test_a_sum_over_tensors_cuts_the_pass_in_two(monkeypatch):
    measure, update = lowered_graphs(monkeypatch, CLIPPED)
    assert (len(measure.inputs), len(measure.measures), len(measure.writes)) == (1, 1, 0)
    assert (len(update.inputs), len(update.measures), len(update.writes)) == (4, 0, 3)


def test_numbers_never_compile_anew():
    """A thousand steps of a warm-up with a cosine, and groups that are edited on the way."""
    net = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    groups = [{"params": net[:1]}, {"params": net[1:], "lr": 0.02, "weight_decay": 0.3}]
    opt = fo.optim.AdamW(groups, lr=0.01, engine="fused")
    schedule = torch.optim.lr_scheduler.SequentialLR(
        opt,
        [
            torch.optim.lr_scheduler.LinearLR(opt, 1e-8, total_iters=100),
            torch.optim.lr_scheduler.CosineAnnealingLR(opt, 900),
        ],
        milestones=[100],
    )
    before = None
    for t in range(1000):
        for p in net:
            p.grad = torch.full_like(p, 0.1 + t % 3)
        opt.step()
        schedule.step()
        opt.param_groups[1]["betas"] = (0.9 - 1e-4 * (t % 7), 0.99)
        if before is None:
            before = _kernels.compiles
    assert opt.engine == "fused"
    assert _kernels.compiles == before


def test_other_shapes_and_numbers_of_tensors_share_the_code():
    Run(CLIPPED, "fused", parameters(torch.float32)).step()
    before = _kernels.compiles
    run = Run(CLIPPED, "fused", parameters(torch.float32, {"a": (17,), "b": (2, 3, 4)}))
    run.step()
    assert run.engine.name == "fused"
    assert _kernels.compiles == before


def test_a_compile_is_announced_with_its_duration(caplog, monkeypatch):
    monkeypatch.setattr(_kernels, "_cache", {})
    with caplog.at_level(logging.INFO, "funcopt"):
        Run(fo.sgd(0.1), "fused", parameters(torch.float32)).step()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(("compiled a pass", "loaded a pass"))
    assert line.endswith("s (native)")


def test_without_a_compiler_it_is_a_line_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_kernels, "has_compiler", lambda: False)
    with caplog.at_level(logging.INFO, "funcopt"):
        run = Run(fo.lion(0.1), "fused", parameters(torch.float32))
        run.step()
        run.step()
    assert run.engine.name == "eager"
    first, last = [r.getMessage() for r in caplog.records]
    assert first.endswith("has no kernel of native: no C++ compiler was found")
    assert last.startswith("chain runs operation by operation: a pass of")


def test_a_number_that_is_stored_for_a_block_is_not_printed():
    block, number = Register("tensor", 0), Register("constant", 0)
    columns = (Input(0, torch.float32, 256),)
    listing = Listing(torch.float32, columns, 0, (1.0,), (), (), ((block.number, number),), ())
    with pytest.raises(Unsupported, match="stored for a block"):
        _native.source(listing)


def test_the_public_compiler_is_the_second_way(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "compiled")
    runs = [Run(CLIPPED, how, parameters(torch.float32)) for how in ("eager", "fused")]
    for _ in range(3):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 2e-6


def test_a_step_makes_no_tensor_of_the_size_of_a_parameter():
    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.entries = max(self.entries, out.numel())
            return out

    tx = fo.chain(fo.clip_by_global_norm(0.1), fo.adamw(), fo.ema_of_params(0.9))
    params = [torch.nn.Parameter(torch.ones(300, 400)), torch.nn.Parameter(torch.ones(7))]
    opt = fo.Optimizer(params, tx, engine="fused")
    seen = []
    for _ in range(3):
        for p in params:
            p.grad = torch.full_like(p, 0.1)
        with Largest() as largest:
            opt.step()
        seen.append(largest.entries)
    assert opt.engine == "fused"
    assert seen[0] >= 300 * 400  # the slots
    assert max(seen[1:]) <= 300 * 400 // 4096 + 2  # a sum for each piece


class all_functions(fo.TensorRule):
    """Keeps the value of each function of gradient and parameter, which stays as it is."""

    elementwise = True

    def init_tensor(self, p):
        return Values(*(torch.zeros_like(p) for _ in FUNCTIONS))

    def update_tensor(self, g, slots, p, s):
        found = (function(g, p, s.scalar) for function in FUNCTIONS.values())
        return torch.full_like(g, -0.0), Values(*found)

    scalar: fo.Scalar = 0.3


Values = collections.namedtuple("Values", FUNCTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_printed_rounds_as_the_functions_of_torch(monkeypatch, dtype):
    (lowered,) = lowered_graphs(monkeypatch, all_functions(), dtype)
    row = torch.linspace(0.1, 0.3, lowered.num_scalars, dtype=dtype)
    assert_rounded_alike(lowered, row, 16 * torch.finfo(dtype).eps, _kernels.NativeKernel)


class Previous(NamedTuple):
    previous: torch.Tensor


class keeps_previous(fo.TensorRule):
    """A slot for the parameter before the step, which is overwritten in that."""

    elementwise = True

    def init_tensor(self, p):
        return Previous(torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        return -0.1 * g - 0.1 * slots.previous, Previous(p)


FEWER_BITS = {
    "a copy": (fo.quantized(keeps_previous(), "bf16", min_size=1), torch.float64),
    "a copy in codes": (fo.quantized(keeps_previous(), "8bit", min_size=1), torch.float32),
    "one word": (fo.rounded(fo.adamw(0.1), "stochastic"), torch.bfloat16),
    "two words": (fo.rounded(fo.lion(0.1), "remainder"), torch.bfloat16),
    "halves": (fo.rounded(fo.adamw(0.1), "kahan"), torch.float16),
    "bytes": (fo.quantized(fo.adamw(0.1), "8bit", min_size=1), torch.float32),
    "nibbles": (fo.quantized(fo.adamw(0.1), "4bit", min_size=1), torch.float32),
    "both": (
        fo.quantized(fo.adamw(0.1), slots={"exp_avg": "4bit"}, min_size=1),
        torch.float32,
    ),
    "rest of 16": (fo.quantized(fo.adamw(0.1), "bf16+8", min_size=1), torch.float32),
    "float8": (fo.quantized(fo.adamw(0.1), "fp8", min_size=1), torch.float32),
    "bfloat16 in float64": (fo.quantized(fo.adamw(0.1), "bf16", min_size=1), torch.float64),
    "a sum": (
        fo.rounded(fo.chain(fo.clip_by_global_norm(0.1), fo.sgd(0.1)), "stochastic"),
        torch.bfloat16,
    ),
}


@pytest.mark.parametrize("case", FEWER_BITS)
def test_entries_in_fewer_bits_are_those_of_the_machine(monkeypatch, case):
    tx, dtype = FEWER_BITS[case]
    found = []
    for kernels in ("bytecode", "native"):
        monkeypatch.setenv("FUNCOPT_KERNELS", kernels)
        run = Run(tx, "fused", parameters(dtype, {"a": (3, 257), "b": (5,), "c": (256,), "d": ()}))
        for _ in range(4):
            run.step()
        assert run.engine.name == "fused"
        found.append(run.tensors())
    assert all(map(torch.equal, *found)) or gap(*found) <= 1e-14


def test_autograd_notices_what_machine_code_has_changed():
    p = torch.nn.Parameter(torch.ones(3))
    opt = fo.optim.AdamW([p], engine="fused")
    for _ in range(3):
        loss = (p * p).sum()
        p.grad = torch.ones(3)
        opt.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
