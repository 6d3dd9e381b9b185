"""Kernels of Triton, in its interpreter: they do what the functions of torch do."""

import importlib.util
from collections import Counter

import pytest
import torch

import funcopt as fo
from funcopt.combinators import walk
from funcopt.engine import triton

from .as_on_cuda import AsOnCuda
from .common import Run, gap, gradients, lowered_graphs, parameters, units, watched
from .concluding import assert_is_a_kernel, assert_looking_runs_by_torch, assert_theirs_is_a_kernel
from .concluding import concluded as concluded
from .test_bytecode import (
    FUNCTIONS,
    LENGTHS,
    assert_extremes_are_found,
    assert_rounded_alike,
    largest_entry,
    mapped,
    outcomes,
    smallest_entry,
)
from .test_every_chain import CASES, has_to_run_as_it_is, on_a_device

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from funcopt.engine.triton import _launch

from .by_triton import by_triton

CPU = torch.device("cpu")
FUSED = {"lerp_tensor"}
REPLAYED = [case for case in CASES if not has_to_run_as_it_is(case.tx)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    with by_triton(monkeypatch):
        yield


def kernel_of(lowered):
    return triton.TritonKernel(lowered, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - FUSED))
def test_an_instruction_rounds_as_the_function_of_torch(monkeypatch, name, dtype):
    (lowered,) = lowered_graphs(monkeypatch, mapped(FUNCTIONS[name]), dtype)
    row = torch.linspace(0.1, 0.3, lowered.num_scalars, dtype=dtype)
    assert_rounded_alike(lowered, row, 16 * torch.finfo(dtype).eps, kernel_of)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FUSED)
def test_products_and_sums_that_are_rounded_once(monkeypatch, name, dtype):
    """Twice by the interpreter, so the larger of the terms counts where they cancel."""
    (lowered,) = lowered_graphs(monkeypatch, mapped(FUNCTIONS[name]), dtype)
    row = torch.linspace(0.1, 0.3, lowered.num_scalars, dtype=dtype)
    columns = [torch.linspace(-1 - k, 2, 100).to(x.dtype) for k, x in enumerate(lowered.inputs)]
    ours, theirs, _, _ = outcomes(lowered, columns, row, kernel_of)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=0.0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_sums_are_those_of_float64(monkeypatch, dtype, length):
    lowered, _ = lowered_graphs(monkeypatch, fo.clip_by_global_norm(1.0), dtype)
    columns = [torch.linspace(-3, 2, length).to(x.dtype) for x in lowered.inputs]
    row = torch.full((lowered.num_scalars,), 0.5, dtype=lowered.compute_dtype)
    _, _, measured, expected = outcomes(lowered, columns, row, kernel_of)
    for x, y in zip(measured, expected, strict=True):
        torch.testing.assert_close(x, y.double(), rtol=2e-7, atol=0.0)


SHAPES = {"a": (3, 32), "b": (), "c": (7,), "d": (0, 3), "e": (5, 16), "f": (1,), "g": (16,)}
"""Multiples of 8, which are walked by wide accesses where they are aligned, and others."""


def misaligned(x):
    """The same values at an address that wide accesses cannot take."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


@pytest.mark.in_part(2)
@pytest.mark.parametrize(
    ("dtype", "aligned"),
    [
        (torch.float64, True),
        (torch.float32, False),
        (torch.bfloat16, True),
    ],
    ids=["float64", "float32, misaligned", "bfloat16"],
)
@pytest.mark.parametrize("case", REPLAYED, ids=str)
def test_every_chain_makes_the_steps_of_the_eager_engine(case, dtype, aligned):
    """One step in bfloat16: a rounding of the first grows in those after it."""
    runs = []
    for how in ("eager", "fused"):
        params = parameters(dtype, SHAPES)
        if not aligned:
            params = {name: misaligned(p) for name, p in params.items()}
        runs.append(Run(case.tx, how, params, case.extra))
    for _ in range(1 if dtype is torch.bfloat16 else 3):
        for run in runs:
            run.step()
    assert runs[1].engine.name == "fused"
    theirs, ours = (run.tensors() for run in runs)
    assert units(ours, theirs, dtype) <= {torch.float64: 10, torch.float32: 24}.get(dtype, 1.0)


@pytest.mark.parametrize("tx", [largest_entry("amax"), smallest_entry("amin")], ids=str)
@pytest.mark.parametrize("spoiled", [None, 0, 99])
def test_the_largest_and_the_smallest_entry_are_found_and_a_nan_is_one(tx, spoiled):
    assert_extremes_are_found(tx, spoiled, (100, 90))


ENGINES = ("eager", "fused")


def test_groups_have_rows_of_their_own():
    found = []
    for engine in ENGINES:
        ps = [torch.nn.Parameter(torch.linspace(-1, 1, n).double()) for n in (12, 7, 100, 5)]
        groups = [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.3, "max_norm": 0.5}]
        tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1))
        opt = fo.Optimizer(groups, tx, engine=engine)
        for t in range(5):
            for p in ps:
                p.grad = p.detach().sin() + t
            opt.step()
        assert opt.engine == engine
        found.append([p.detach() for p in ps])
    assert gap(*found) <= 1e-14


@pytest.mark.parametrize(
    "tx",
    [
        fo.adamw(1e-2),
        fo.chain(fo.clip_by_global_norm(1.0), fo.lion(1e-2), fo.ema_of_params(0.9)),
        fo.lamb(1e-2),
    ],
    ids=["AdamW", "clip, Lion, EMA", "LAMB"],
)
def test_the_pure_form_is_made_by_the_same_kernels(tx):
    """Out of place: what goes in stays as it is."""
    params = parameters(torch.float64, SHAPES)
    found = []
    for engine in ENGINES:
        state, values = tx.init(params), params
        for t in range(3):
            grads, before = gradients(values, t), {k: p.clone() for k, p in values.items()}
            with watched(engine) as made:
                updates, state = tx.update(grads, state, values)
            assert made == [engine == "fused"]
            assert gap(list(values.values()), list(before.values())) == 0
            values = fo.apply_updates(values, updates)
        found.append([*values.values(), *fo.tree.leaves(state)])
    assert gap(*found) <= 1e-14


@pytest.mark.parametrize("layout", ["complex", "channels last", "transposed"])
def test_any_memory_order(layout):
    found = []
    for engine in ENGINES:
        p = torch.linspace(-1, 1, 240, dtype=torch.float64).reshape(2, 4, 5, 6)
        if layout == "complex":
            p = torch.complex(p, p.flip(0))
        elif layout == "channels last":
            p = p.to(memory_format=torch.channels_last)
        else:
            p = p.transpose(1, 3)
        p = torch.nn.Parameter(p)
        opt = fo.Optimizer([p], fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1)), engine=engine)
        for t in range(3):
            p.grad = torch.sin(p.detach() + t)
            opt.step()
        assert opt.engine == engine
        found.append(p.detach())
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_rate_is_read_where_it_lies_in_any_dtype(dtype, monkeypatch):
    """On a device, to ask for its value would be to wait."""
    lr, found = torch.tensor(0.25 if dtype.is_floating_point else 2, dtype=dtype), []
    for engine in ENGINES:
        p = torch.nn.Parameter(torch.linspace(-1, 1, 20, dtype=torch.float64))
        opt = fo.Optimizer([p], fo.sgd(lr, momentum=0.9), engine=engine)
        for _ in range(3):
            p.grad = p.detach().sin()
            with monkeypatch.context() as patch:
                if engine == "fused":
                    patch.setattr(torch.Tensor, "__float__", None)
                opt.step()
        assert opt.engine == engine
        found.append(p.detach())
    torch.testing.assert_close(*found, rtol=1e-14, atol=1e-15)


# What concludes on the device.


@pytest.mark.parametrize("case", REPLAYED, ids=str)
def test_every_conclude_of_the_library_is_a_kernel(case, concluded):
    assert_is_a_kernel(case, concluded, SHAPES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_rule_of_somebody_else_concludes_by_a_kernel(dtype, concluded):
    assert_theirs_is_a_kernel(dtype, concluded, SHAPES)


@pytest.mark.parametrize("parts", [1, 15, 16, 17, 33])
def test_any_number_of_parts_is_added_up(parts):
    """That many tasks, of which a program adds 16 at once."""
    shape = {"a": ((parts - 1) * triton.TritonKernel.chunk + 5,)}
    runs = [
        Run(fo.clip_by_global_norm(1.0), how, parameters(torch.float64, shape)) for how in ENGINES
    ]
    for run in runs:
        run.step({"a": torch.ones(shape["a"], dtype=torch.float64)})
    assert runs[1].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-14


def test_a_conclude_that_looks_at_values_runs_by_torch(concluded):
    assert_looking_runs_by_torch(concluded, SHAPES)


def test_metrics_are_those_of_the_eager_engine():
    found = []
    for engine in ENGINES:
        ps = {name: torch.nn.Parameter(p) for name, p in parameters(torch.float32, SHAPES).items()}
        tx = fo.chain(fo.clip_by_global_norm(1.0), fo.lamb(0.1), fo.monitor())
        opt = fo.Optimizer(ps.items(), tx, engine=engine)
        for _ in range(2):
            for p in ps.values():
                p.grad = p.detach().sin()
            opt.step()
        found.append(opt.metrics())
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert float(found[1][name]) == pytest.approx(float(value), rel=1e-6), name


# What is prepared on the device.


def rules_that_prepare():
    """Each once, with its memory."""
    found = {}
    for case in REPLAYED:
        for _, node in walk(case.tx):
            if isinstance(node, fo.TensorRule):
                rule = node.evaluated(0.0)
                if rule.prepare(1.0, memory_of(rule)):
                    found.setdefault(repr(node), node)
    return list(found.values())


def memory_of(rule):
    return rule.init_memory(torch.zeros((), dtype=torch.float64))


def by_torch(rule):
    """It asks for the remainder of a step, which is no instruction."""
    named = type(rule).__name__ in ("scale_by_soap", "scale_by_shampoo")
    return named or getattr(rule, "sync_every", None) is not None


@pytest.mark.parametrize("rule", rules_that_prepare(), ids=repr)
def test_scalars_of_a_step_are_those_of_the_rule(rule):
    prepared = triton.Prepared()
    for t in (1, 2, 3, 10, 1000, 123456):
        step, memory = torch.tensor(float(t)), memory_of(rule)
        one = rule.evaluated(step)
        with torch.no_grad():
            theirs = one.prepare(step.double(), memory)
            ours = prepared(one, step, memory)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            for x, y in zip(fo.tree.leaves(ours[name]), fo.tree.leaves(value), strict=True):
                assert float(x) == pytest.approx(float(y), rel=1e-9, abs=1e-12), name
    no_kernel = [code is None for code in prepared._known.values()]
    assert all(no_kernel) is any(no_kernel) is by_torch(rule)


def test_what_is_prepared_follows_hyperparameters_without_a_new_kernel():
    prepared = triton.Prepared()
    for beta in (0.9, 0.99, 0.5):
        rule = fo.scale_by_adam(betas=(beta, 0.999))
        with torch.no_grad():
            found = prepared(rule, torch.tensor(3.0), ())
        for name, value in rule.prepare(3.0, ()).items():
            for x, y in zip(fo.tree.leaves(found[name]), fo.tree.leaves(value), strict=True):
                assert float(x) == pytest.approx(float(y), rel=1e-12)
    assert len(prepared._known) == 1


@pytest.mark.parametrize(
    ("tx", "most"),
    [
        (fo.adamw(1e-3), 2),
        (fo.lion(1e-4), 1),
        (fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.99)), 3),
        (fo.lamb(1e-3), 4),
        (fo.nadam(1e-3), 2),
        (fo.skip_if(fo.adamw(1e-3)), 3),
    ],
    ids=["AdamW", "Lion", "clip, AdamW, EMA", "LAMB", "NAdam", "skip_if"],
)
def test_with_step_counts_on_the_device_launches_do_not_grow(tx, most, launched):
    for n in (4, 148):
        ps = [torch.nn.Parameter(torch.empty(3, device="meta")) for _ in range(n)]
        opt = fo.Optimizer([(f"p{i}", p) for i, p in enumerate(ps)], tx, capturable=True)
        for _ in range(3):
            for p in ps:
                p.grad = torch.empty_like(p)
            launched.clear()
            opt.step()
        assert opt.engine == "fused"
        assert launched["kernels"] == most


# Launches, counted on "meta", with CUDA's rules.


@pytest.fixture
def launched(monkeypatch):
    found = Counter()

    def counted(call, table, device):
        found["kernels"] += 1

    monkeypatch.setattr(_launch, "_run", counted)
    return found


FREE = (
    "alias as_strided detach empty empty_like empty_strided expand lift_fresh reshape "
    "result_type select slice to unbind unsqueeze view"
)
"""What launches nothing."""


def launches_of(tx, launched, tensors=148, capturable=False):
    """Kernels of Triton, and operations of torch, in one step on a device."""
    params = {str(i): torch.empty(3, device="meta") for i in range(tensors)}
    grads = {k: torch.empty_like(p) for k, p in params.items()}
    run = Run(tx, "auto", params)
    for _ in range(2):
        run.step(grads)
    launched.clear()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        run.step(grads)
    assert run.engine.name == "fused"
    others = {
        e.key: e.count
        for e in profile.key_averages()
        if e.key.startswith("aten::") and e.key.removeprefix("aten::") not in FREE.split(" ")
    }
    return launched["kernels"], others


@pytest.mark.parametrize(
    ("tx", "most"),
    [
        (fo.adamw(1e-3), 1),
        (fo.lion(1e-4), 1),
        (fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1e-3), fo.ema_of_params(0.99)), 3),
        (fo.lamb(1e-3), 3),
        (fo.skip_if(fo.adamw(1e-3)), 3),
    ],
    ids=["AdamW", "Lion", "clip, AdamW, EMA", "LAMB", "skip_if"],
)
def test_a_step_is_one_launch_for_each_pass_and_one_copy(tx, most, launched):
    assert launches_of(tx, launched) == (most, {"aten::copy_": 1})


@on_a_device
def test_nothing_is_waited_for(case, launched):
    if has_to_run_as_it_is(case.tx):
        pytest.skip("not made by kernels")
    params = {k: p.to("meta") for k, p in parameters().items()}
    run = Run(case.tx, "auto", params, case.extra)
    with AsOnCuda() as mode:
        for _ in range(3):
            run.step({k: torch.empty_like(p) for k, p in params.items()})
    assert run.engine.name == "fused"
    assert not mode.waits
