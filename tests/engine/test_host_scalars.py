"""What stages conclude on the CPU, by the machine instead of functions of torch."""

import math

import pytest
import torch

import funcopt as fo
from funcopt.engine import _kernels
from funcopt.engine._guards import ScalarSource, Unsupported, guards_hold
from funcopt.engine._scalar_graph import ScalarGraph

from .common import Run, gap, parameters
from .concluding import assert_is_a_kernel, assert_looking_runs_by_torch, assert_theirs_is_a_kernel
from .concluding import concluded as concluded
from .test_each_tensor import ANSWERS, answering, hiding
from .test_every_chain import CASES, has_to_run_as_it_is


@pytest.fixture(autouse=True)
def bytecode(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


REPLAYED = [case for case in CASES if not has_to_run_as_it_is(case.tx)]
ENGINES = ("fused", "eager")


@pytest.mark.parametrize("case", REPLAYED, ids=str)
def test_every_conclude_of_the_library_is_a_kernel(case, concluded):
    assert_is_a_kernel(case, concluded)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_rule_of_somebody_else_concludes_by_a_kernel(dtype, concluded):
    """Shared scalars in several dtypes, a flag, and numbers that change."""
    assert_theirs_is_a_kernel(dtype, concluded)


def test_a_conclude_that_looks_at_values_runs_by_torch(concluded):
    assert_looking_runs_by_torch(concluded)


@pytest.mark.parametrize("tasks", [1, 2, 63, 64, 65, 200, 1000])
def test_any_number_of_parts_is_added_up(tasks, monkeypatch, concluded):
    monkeypatch.setattr(_kernels.BytecodeKernel, "chunk", 8)
    monkeypatch.setattr(_kernels, "_cache", {})
    shape = {"a": (8 * (tasks - 1) + 5,)}
    g = {"a": 1 + torch.arange(8.0 * (tasks - 1) + 5, dtype=torch.float64).sin()}
    runs = [
        Run(fo.clip_by_global_norm(1.0), how, parameters(torch.float64, shape)) for how in ENGINES
    ]
    for run in runs:
        run.step(g)
    assert len(concluded) == 1
    assert gap(*(run.tensors() for run in runs)) <= 1e-15


class largest(fo.TensorRule):
    """Divides by the largest entry of all tensors, or of each, or by the smallest."""

    elementwise = True
    combine = "max"

    def measure_tensor(self, g, slots, p, s):
        return g.amax()

    def conclude(self, s, memory, total):
        return {"extreme": total}, memory

    def update_tensor(self, g, slots, p, s):
        return g / s.extreme, slots


class smallest(largest):
    combine = "min"

    def measure_tensor(self, g, slots, p, s):
        return g.amin()


class largest_of_each(largest):
    measure_per = "tensor"


class smallest_of_each(smallest):
    measure_per = "tensor"


@pytest.mark.parametrize("rule", [largest, smallest, largest_of_each, smallest_of_each])
@pytest.mark.parametrize("spoiled", [None, math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("at", [0, 20, 39])
def test_extremes_are_those_of_torch(rule, spoiled, at, monkeypatch):
    """NaN is the largest and the smallest, in whichever part it is."""
    monkeypatch.setattr(_kernels.BytecodeKernel, "chunk", 8)
    monkeypatch.setattr(_kernels, "_cache", {})
    shapes = {"a": (40,), "b": (3,)}
    runs = [Run(rule(), how, parameters(torch.float64, shapes)) for how in ENGINES]
    g = {"a": torch.linspace(-2, 3, 40, dtype=torch.float64), "b": torch.ones(3).double()}
    if spoiled is not None:
        g["a"][at] = spoiled
    for run in runs:
        run.step(g)
    assert runs[0].engine.name == "fused"
    for ours, known in zip(*(run.tensors() for run in runs), strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-15, atol=0, equal_nan=True)


def test_a_limit_that_derivatives_are_taken_by_is_not_read_by_the_machine():
    limit = torch.tensor(1.0, dtype=torch.float64)
    runs = [Run(fo.clip_by_global_norm(limit), how, parameters()) for how in ENGINES]
    for t in range(4):
        limit.requires_grad_(t == 2)
        for run in runs:
            run.step()
    assert gap(*(run.tensors() for run in runs)) <= 1e-14


def test_a_scalar_that_is_followed_or_elsewhere_is_not_read():
    graph = ScalarGraph(torch.device("cpu"))
    graph.value(torch.tensor(1.0), ScalarSource(lambda given, i: given[0]))
    followed = torch.tensor(1.0, requires_grad=True)
    assert guards_hold(graph.guards, [torch.tensor(2.0)])
    assert not guards_hold(graph.guards, [followed])
    assert not guards_hold(graph.guards, [torch.tensor(1.0, device="meta")])
    with torch.no_grad():
        assert guards_hold(graph.guards, [followed])
    with pytest.raises(Unsupported, match="waited for"):
        graph.value(torch.tensor(1.0, device="meta"), ScalarSource(lambda given, i: given[0]))


def groups(engine, tx, values):
    ps = [
        torch.nn.Parameter(torch.linspace(-1, 1, 30 + 7 * k).double()) for k in range(len(values))
    ]
    given = [{"params": [p], **own} for p, own in zip(ps, values, strict=True)]
    return fo.Optimizer(given, tx, engine=engine), ps


@pytest.mark.parametrize(
    ("tx", "values"),
    [
        (
            fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)),
            [{"max_norm": 1.0}, {"max_norm": 9.0}],
        ),
        (fo.lamb(0.1), [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]),
        (fo.prodigy(1.0), [{"lr": 1.0}, {"lr": 1.0}]),
    ],
)
def test_each_group_concludes_with_its_own_values(tx, values, concluded):
    found = []
    for engine in ENGINES:
        opt, ps = groups(engine, tx, values)
        for t in range(40):  # of which most are ready steps
            for p in ps:
                p.grad = (p.detach() + t).sin()
            opt.step()
        found.append([*(p.detach() for p in ps), *opt.metrics().values()])
    assert concluded
    assert not [why for why in concluded if isinstance(why, str)]
    for ours, known in zip(*found, strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-12, atol=1e-14)


def test_a_usual_step_between_ready_ones_has_its_own_memory():
    """A gradient that is gone for a step leads to another pass over other tasks."""
    found = []
    for engine in ENGINES:
        ps = [torch.nn.Parameter(torch.linspace(-1, 1, 30)) for _ in range(3)]
        opt = fo.Optimizer(ps, fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), engine=engine)
        for t in range(90):
            for k, p in enumerate(ps):
                p.grad = None if (t % 30 == 29 and k == 1) else (p.detach() + t + k).cos()
            opt.step()
        found.append([p.detach() for p in ps])
    for ours, known in zip(*found, strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_any_kind(name):
    """What a tensor may be hidden in is not looked through."""
    tx = fo.chain(answering(ANSWERS[name]), fo.scale(-1.0))
    runs = [Run(tx, how, parameters()) for how in ENGINES]
    for _ in range(3):
        for run in runs:
            run.step()
    assert runs[0].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-14


def test_an_answer_that_hides_a_tensor():
    runs = [Run(fo.chain(hiding(), fo.scale(-1.0)), how, parameters()) for how in ENGINES]
    for _ in range(3):
        for run in runs:
            run.step()
    assert gap(*(run.tensors() for run in runs)) <= 1e-14


def pure_steps(txs, engine):
    params, states = {"w": torch.linspace(-1, 1, 40), "b": torch.ones(3)}, []
    state = txs[0].init(params)
    with fo.pure_engine(engine):
        for t, tx in enumerate(txs):
            grads = fo.tree.map(lambda p, t=t: (p + t).cos(), params)
            updates, state = tx.update(grads, state, params)
            params = fo.apply_updates(params, updates)
            states.append((params, state))
    return states


def assert_alike(txs):
    for one, other in zip(*(pure_steps(txs, engine) for engine in ENGINES), strict=True):
        for x, y in zip(fo.tree.leaves(one), fo.tree.leaves(other), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_an_update_that_repeats_another_concludes_from_its_own_sums():
    """Also when one of the same kernels was made in the usual way in between."""
    txs = [fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(lr)) for lr in (0.1, 0.2)]
    assert_alike([txs[t in (12, 15)] for t in range(20)])


def test_what_was_remembered_before_stays():
    assert_alike([fo.chain(fo.clip_by_zscore(warmup=2), fo.sgd(0.1))] * 12)


class counted(fo.TensorRule):
    """Says how many entries are positive, and whether these are many, as a flag and as a number."""

    elementwise = True
    metrics = ("positive", "are_many", "number")

    def measure_tensor(self, g, slots, p, s):
        return (g > 0).sum()

    def conclude(self, s, memory, total):
        many = total > 20
        return {"positive": total, "are_many": many, "number": many.to(torch.int64) + 1}, memory

    def update_tensor(self, g, slots, p, s):
        return torch.where(s.are_many, g, 2.0 * g), slots


def test_whole_numbers_and_flags_are_those_of_each_ready_step():
    p = torch.nn.Parameter(torch.ones(40))
    opt = fo.Optimizer([p], fo.chain(counted(), fo.scale(-1.0)))
    for t in range(60):
        p.grad = torch.where(torch.arange(40) < t, 1.0, -1.0)
        opt.step()
        said = opt.metrics()
        found = [said[name].item() for name in counted.metrics]
        assert found == [min(t, 40), t > 20, 1 + (t > 20)]
        dtypes = [said[name].dtype for name in counted.metrics]
        assert dtypes == [torch.float32, torch.bool, torch.int64]
    assert opt._ready._kernels.is_settled


def test_metrics_of_ready_steps_stay_as_they_were():
    p = torch.nn.Parameter(torch.ones(40))
    opt = fo.Optimizer([p], fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)))
    said = []
    for t in range(40):
        p.grad = torch.full((40,), float(t))
        opt.step()
        said.append(opt.metrics()["grad_norm"])
    assert [float(x) for x in said] == pytest.approx([t * 40**0.5 for t in range(40)], rel=1e-6)
    assert {x.dtype for x in said} == {torch.float32}


def test_groups_with_the_same_values_share_a_conclusion_until_they_differ(concluded):
    tx, found = fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.1)), []
    for engine in ENGINES:
        opt, ps = groups(engine, tx, [{}, {"lr": 0.2}, {}])
        for t in range(60):
            if t in (20, 40):
                opt.param_groups[1]["max_norm"] = 0.5 if t == 20 else 1.0
            for p in ps:
                p.grad = (p.detach() + t).sin()
            opt.step()
        found.append([*(p.detach() for p in ps), *opt.metrics().values()])
    counts = [len(one._groups[0][0].ranges) for one in concluded]
    assert counts[0] == 1
    assert set(counts) == {1, 3}
    for ours, known in zip(*found, strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-12, atol=1e-14)
