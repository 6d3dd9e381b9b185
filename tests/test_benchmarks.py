"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import collections
import gc
import itertools
import math
import os
import types
from fnmatch import fnmatchcase

import pytest
import torch

import funcopt as fo
from benchmarks import __main__ as command
from benchmarks import compiling, duel, gpu, machine, memory, ours, scaling, targets
from benchmarks.chains import CHAINS, LR
from benchmarks.contenders import Contender, Run, absent
from benchmarks.duel import (
    TOLERANCE,
    Duel,
    Effort,
    Result,
    difference,
    in_turns,
    on_host,
    on_stream,
    run,
    sample,
)
from benchmarks.page import Page
from benchmarks.problems import SHAPES, Problem, problem, smaller
from benchmarks.rivals import by_hand, rivals
from benchmarks.table import Wanted, duels

SQUARES = Problem("squares", ((8, 6), (6, 6)))
TINY = Problem("tiny", ((3, 2), (4,)))
ONCE = Effort(rounds=5, seconds=0.0)


@pytest.fixture(scope="module", autouse=True)
def no_garbage_of_others():
    """Each duel collects garbage first: it would look at all that the tests before have left."""
    gc.collect()
    gc.freeze()


class Recorded(Run):
    """Steps as gradient descent does, and writes down that it did."""

    def __init__(self, problem, rate=LR, log=None):
        super().__init__(problem)
        self.rate, self.log, self.given = rate, log, []

    def give(self, grads):
        super().give(grads)
        self.given.append((self.grads[0].data_ptr(), self.grads[0].clone()))

    def step(self):
        if self.log is not None:
            self.log.append(self)
        torch._foreach_add_(self.params, self.grads, alpha=-self.rate)


def descent(name="descent", rate=LR):
    return Contender(name, lambda problem: Recorded(problem, rate))


def result(theirs, pairs, problem="GPT 22M", chain="nadam"):
    return Result(problem, chain, "funcopt", theirs, "loop", pairs)


@pytest.fixture(autouse=True)
def all_cores(monkeypatch):
    """Threads and cores of the tests stay as they are."""
    monkeypatch.setattr(machine, "only_cores", lambda number: None)


# Who takes part.


@pytest.mark.parametrize(
    ("chain", "rival"),
    [pytest.param(c, r, id=f"{c.name}-{r.name}") for c in CHAINS.values() for r in rivals(c)],
)
@pytest.mark.filterwarnings("default")  # of the rivals' own making
def test_a_rival_computes_the_same(chain, rival):
    if rival.absent and not os.environ.get("CI"):
        pytest.skip(rival.absent)
    tiny = SQUARES if chain.matrices else TINY
    duel = Duel(tiny, chain.name, ours.wrapped(chain), rival, tolerance=chain.apart)
    found = run(duel, ONCE)
    assert not found.note
    assert len(found.pairs) == 5
    assert found.apart < chain.apart / 5 or rival.differs


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_our_forms_compute_the_same(chain):
    tiny = SQUARES if chain.matrices else TINY
    first, *others = ours.contenders(chain)
    for other in others:
        found = run(Duel(tiny, chain.name, first, other), ONCE)
        assert not found.note
        assert found.apart < TOLERANCE / 50


@pytest.mark.parametrize("target", targets.TARGETS, ids=str)
def test_somebody_answers_to_every_target(target):
    for name in target.chains:
        meets = "pure" if target.form == "one pass" else target.form
        names = [rival.name for rival in rivals(CHAINS[name]) if rival.meets == meets]
        assert any(fnmatchcase(name, target.against) for name in names)
    assert set(target.problems) <= set(SHAPES)


def test_the_table_meets_everybody_at_every_target():
    met = {(d.problem.name, d.chain, d.mode, d.theirs.name) for d in duels(Wanted())}
    for problem_name, chain, mode in targets.places():
        for rival in rivals(CHAINS[chain]):
            is_class = rival.name.startswith("torch ")  # which has parameter groups
            is_met = (problem_name, chain, mode, rival.name) in met
            assert is_met == (mode != duel.SCHEDULED or is_class)


def test_a_scheduler_sets_the_learning_rate_of_both():
    made, rates = CHAINS["adamw"], []
    for contender in (ours.wrapped(made), rivals(made)[0]):
        run = contender.make(TINY)
        duel.scheduled(run, [TINY.grads(0), TINY.grads(1)], 3)
        rates.append(run.opt.param_groups[0]["lr"])
    assert rates[0] == rates[1] == pytest.approx(1e-3 * duel.DECAY**3)


def test_each_meets_the_form_of_ours_that_does_what_it_does():
    names = collections.defaultdict(set)
    for d in duels(Wanted(problems="GPT*", chains="adamw")):
        names[d.theirs.name].add(d.ours.name)
    assert names["torch AdamW(fused=True)"] == names["TorchOpt adamw"] == {"funcopt"}
    assert names["Optax adamw, jit, donated"] == {"funcopt, donated"}
    both = {"funcopt, pure", "funcopt, one pass"}
    assert names["Optax adamw, jit"] == names["TorchOpt adamw, not in place"] == both


def test_the_engine_that_is_asked_for_is_asked_for(monkeypatch):
    asked = []

    class Optimizer(torch.optim.SGD):
        def __init__(self, params, tx, engine="auto"):
            super().__init__(params)
            self.engine = asked.append(engine) or engine

    monkeypatch.setattr(ours.fo, "Optimizer", Optimizer)
    assert ours.engines() == ["eager", "torch", "fused", "compiled"]
    runs = [ours.wrapped(CHAINS["adamw"], engine).make(TINY) for engine in (None, "fused")]
    assert asked == ["auto", "fused"]
    assert ours.engine_of(runs[1]) == "fused"
    others = {d.theirs.name for d in duels(Wanted(chains="adamw", engine="fused"))}
    assert "funcopt, engine=eager" in others
    assert "funcopt, engine=fused" not in others


@pytest.mark.parametrize("form", ["donated", "pure", "one pass"])
def test_what_goes_into_the_pure_form_is_lost_only_if_it_is_donated(form):
    known = {one.name.rpartition(", ")[2]: one for one in ours.contenders(CHAINS["adamw"])}
    made = known[form]
    one = made.make(TINY)
    before = [p.clone() for p in one.params], one.params
    one.give(TINY.grads(0))
    one.step()
    assert result("x", [])._replace(ours=made.name).form == form
    kept = all(type(p) is torch.Tensor and p.equal(was) for was, p in zip(*before, strict=True))
    assert kept == (form != "donated")


def test_other_work_is_done_before_each_step_that_is_timed(monkeypatch):
    made = []
    monkeypatch.setattr(duel.OtherWork, "__call__", lambda self: made.append(len(log)))
    log = []
    one = Recorded(TINY, log=log)
    times = duel.in_training(one, [TINY.grads(k) for k in range(2)], 3)
    assert made == [0, 1, 2]
    assert len(times) == len(log) == 3
    duel.OtherWork(8, 2)()


def test_a_target_is_for_one_mode_and_one_form():
    cold = result("torch AdamW(fused=True)", [(1.0, 9.0)] * 2, "200 x 1,000", "adamw")
    warm = cold._replace(mode=duel.WARM, pairs=[(1.0, 5.0)] * 2)
    pure = cold._replace(ours="funcopt, pure")
    found = {r.mode: r for r in targets.rows([cold, warm, pure]) if r.result}
    assert {mode: (r.at_most, r.held) for mode, r in found.items()} == {
        duel.IN_TRAINING: (0.25, True),
        duel.WARM: (0.18, False),
    }


# What is stepped.


def test_the_parameters_are_those_of_the_targets():
    counts = {name: (len(p), problem(name).elements) for name, p in SHAPES.items()}
    assert counts == {
        "1 x 20M": (1, 20_000_000),
        "GPT 22M": (148, 22_473_984),
        "1,000 x 64": (1_000, 64_000),
        "200 x 1,000": (200, 200_000),
        "GPT 7M, matrices": (16, 7_077_888),
        "4 tensors": (4, 61),
    }


def test_a_quick_look_is_at_less_of_the_same():
    few = Problem("few", smaller(SHAPES["GPT 22M"]))
    assert len(few.shapes) == 20
    assert few.elements < 20 * 32 * 32 + 1
    assert {len(shape) for shape in few.shapes} == {1, 2}


def test_parameters_are_fresh_and_gradients_the_same():
    first, again = TINY.params(), TINY.params()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    first[0].zero_()
    assert not torch.equal(TINY.params()[0], first[0])
    assert TINY.grads(1) is TINY.grads(1)
    assert not torch.equal(TINY.grads(0)[0], TINY.grads(1)[0])


@pytest.mark.parametrize(
    ("chain", "expected"),
    [("sgd momentum", 20), ("lion", 20), ("adamw", 28), ("clip + adamw + ema", 40)],
)
def test_the_floor_is_one_pass_over_memory(chain, expected):
    assert CHAINS[chain].floor() == expected


# How it is timed.


def test_gradients_are_new_tensors_in_every_step_and_what_they_should_be():
    one = Recorded(TINY)
    grads = [TINY.grads(0), TINY.grads(1)]
    on_host(one, grads, 4)
    places, values = zip(*one.given, strict=True)
    assert all(a != b for a, b in itertools.pairwise(places))
    assert all(torch.equal(x, grads[i % 2][0]) for i, x in enumerate(values))


def test_they_take_turns_in_going_first():
    log = []
    a, b = (Recorded(TINY, log=log) for _ in range(2))
    timed = list(in_turns(a, b, [TINY.grads(0), TINY.grads(1)], ONCE, on_host))
    blocks = [one for one, _ in itertools.groupby(log[8:])]  # after those that tell how many
    assert len(timed) == 5
    assert blocks == [a, b, a, b, a, b]  # A B, B A, A B, B A, A B
    assert len(log[8:]) == 5 * 2 * 2  # one that counts, and one before


def test_the_first_step_of_a_sample_does_not_count():
    assert sample(Recorded(TINY), [[]], 3, lambda run, grads, steps: [9.0, 1.0, 2.0, 3.0]) == 2.0


def test_times_are_given_to_whom_they_belong():
    a, b = Recorded(TINY), Recorded(TINY)
    timed = in_turns(a, b, [[]], ONCE, lambda run, grads, steps: steps * [1.0 if run is a else 2.0])
    assert list(timed) == 5 * [(1.0, 2.0)]


def test_slow_ones_get_fewer_rounds():
    def minutes(run, grads, steps):
        return steps * [20.0]

    grads = [TINY.grads(0)]
    assert len(list(in_turns(Recorded(TINY), Recorded(TINY), grads, Effort(), minutes))) == 5


def test_who_computes_something_else_is_no_rival():
    found = run(Duel(TINY, "x", descent(), descent("slower", LR * (1 - 1e-3))), ONCE)
    assert found.note == "computes something else: 1e-03 apart"
    assert not found.pairs


def test_averages_are_compared_too():
    start = [torch.zeros(2)]
    ours = [torch.ones(2), torch.ones(2)]
    assert difference(start, ours, [torch.ones(2), torch.ones(2)]) == 0
    assert difference(start, ours, [torch.ones(2), torch.zeros(2)]) == pytest.approx(0.5**0.5)
    assert run(Duel(TINY, "x", descent(rate=0.0), descent(rate=0.0)), ONCE).note  # went nowhere


def test_who_is_missing_or_fails_is_a_line_in_the_table():
    def broken(problem):
        raise RuntimeError("no such kernel\nmore")

    duel = Duel(TINY, "x", descent(), absent("gone", "gone is not installed"))
    assert run(duel).note == "gone is not installed"
    assert run(duel._replace(theirs=Contender("broken", broken))).note == (
        "failed: RuntimeError: no such kernel"
    )
    assert run(duel._replace(theirs=descent()._replace(most_tensors=1))).note == (
        "not run with more than 1 tensors: it compiles for minutes"
    )
    assert run(duel._replace(theirs=descent()._replace(devices=("cuda",)))).note == "not run on cpu"
    with pytest.raises(RuntimeError, match="no such kernel"):  # ours must not
        run(duel._replace(ours=Contender("broken", broken), theirs=descent()))


# What is made of the times.


def test_ratios_and_their_spread_are_those_of_pairs():
    found = result("x", [(1.0, 2.0), (2.0, 2.0), (3.0, 4.0), (4.0, 8.0), (100.0, 2.0)])
    assert found.medians == (3.0, 2.0)
    assert found.ratio == 0.75
    assert found.spread == (0.5, 25.5)


def test_memory_that_slows_down_meanwhile_changes_no_ratio():
    """Between the two of one pair; of our medians one is of before, and the other of after."""
    found = result("x", [(8.0, 8.0), (8.0, 8.0), (8.0, 16.0), (16.0, 16.0), (16.0, 16.0)])
    assert found.medians == (8.0, 16.0)
    assert found.ratio == 1.0


def test_the_fastest_of_those_who_fit_is_who_counts():
    slow = result("torch NAdam()", [(1.0, 9.0)] * 2)
    fast = result("torch NAdam(foreach=True)", [(1.0, 2.0)] * 2)
    (row,) = (r for r in targets.rows([slow, fast]) if r.result)
    assert row.result.theirs == "torch NAdam(foreach=True)"
    assert (row.at_most, row.held) == (0.35, False)
    (row,) = (r for r in targets.rows([slow]) if r.result)
    assert row.held is True


def test_what_was_not_timed_is_not_held():
    missing = result("TorchOpt adamw", [], chain="adamw")._replace(note="not installed")
    (row,) = (r for r in targets.rows([missing]) if r.result)
    assert row.held is None


# Memory, compilation, the machine.


def test_extra_memory_is_the_highest_sum():
    assert memory.highest([8, 16, -8, 4, -20]) == 24
    assert memory.highest([-8, 4]) == 0


def test_extra_memory_is_that_of_temporaries():
    square = Problem("square", ((64, 64), (64,)))
    size = 4 * 64 * 64
    loops = {name: Contender(name, loop) for name, loop in by_hand.LOOPS.items()}
    found = {name: memory.extra(square, name, loop) for name, loop in loops.items()}
    assert found["sgd momentum"].bytes < 100  # numbers
    assert size <= found["lion"].bytes < 1.1 * size
    assert found["lion"].largest == size


def test_the_first_step_is_measured_in_a_process_of_its_own(tmp_path):
    seconds, engine = compiling._process(str(tmp_path), "adamw", "4 tensors", "cpu")
    assert math.isfinite(seconds)
    assert engine == "fused"


def test_sizes_stop_where_half_of_the_memory_would_be_used(monkeypatch):
    monkeypatch.setattr(scaling, "memory_left", lambda device: 1.5 * 4 * scaling.COPIES * 1_000)
    found = list(scaling.by_size(ours.wrapped(CHAINS["adamw"]), ONCE, most=10**8))
    assert sorted({point.x for point in found}) == [100]
    assert len({point.name for point in found}) == 3


def test_the_machine_is_described_without_names():
    text = machine.description()
    assert f"{os.cpu_count()} cores" in text
    assert f"PyTorch {torch.__version__.partition('+')[0]}" in text
    assert machine.memory_left() > 0
    assert machine.bandwidth(repeats=1) > 1e8


def test_processors_of_one_name_are_told_apart(tmp_path):
    facts, nothing = tmp_path / "cpuinfo", tmp_path / "nothing"
    core = "processor\t: {}\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\n"
    facts.write_text("".join(map(core.format, range(2))))
    assert machine.processor(facts) == " of AMD EPYC (family 25, model 17)"
    facts.write_text("model name\t: POWER9\n")
    assert machine.processor(facts) == " of POWER9"
    assert machine.processor(nothing) == ""


def test_what_other_processes_take_is_told_from_what_we_take(monkeypatch):
    seconds = iter([(100.0, 40.0, 0.0), (107.0, 45.0, 10.0)])
    monkeypatch.setattr(machine, "_spent", lambda: next(seconds))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    assert machine.Others().share() == 0.1  # 2 of 20 seconds


def test_our_own_work_is_seen():
    before = machine._spent()
    while machine.time.monotonic() < before[2] + 0.1:
        pass
    busy, own, now = (b - a for a, b in zip(before, machine._spent(), strict=True))
    assert 0 < own < 4 * now
    assert busy >= 0


def test_on_a_gpu_only_the_step_is_between_the_marks(monkeypatch):
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append(self)

        def elapsed_time(self, end):
            assert log[-1] == "synchronized"
            where = log.index(self)
            assert log[where - 1 : where + 3] == ["give", self, "step", end]
            return 2.0  # milliseconds

    class Logged(Recorded):
        def give(self, grads):
            log.append("give")

        def step(self):
            log.append("step")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronized"))
    assert on_stream(Logged(TINY), [TINY.grads(0)] * 2, 2) == [2e-3, 2e-3]
    assert len(log) == 2 * 4 + 1


# The command.


def test_the_command_writes_a_page_and_a_figure(tmp_path, capsys):
    parts = ["table", "memory", "sizes"]
    patterns = ["--problems", "4*", "--chains", "adamw", "--against", "t*"]
    assert command.main([*parts, "--quick", *patterns, "--output", str(tmp_path)]) == 0
    text = (tmp_path / "performance_table.md").read_text()
    assert "no result" in text
    assert "| 4 tensors | in training | adamw | fused | `torch AdamW(fused=True)` |" in text
    assert "## Extra memory" in text
    assert "## Size" in text
    assert "## The host" not in text
    assert text in capsys.readouterr().out
    assert "<svg" in (tmp_path / "performance_table.svg").read_text()


def test_a_full_page_has_every_part(tmp_path):
    pair = [(1e-3, 2e-3)] * 3
    page = Page("cpu", False, 0.04, 1e10)
    page.results = [result("torch NAdam()", pair), result("TorchOpt x", [])._replace(note="gone")]
    page.memory = [memory.Extra("p", "c", "who", 100, 1_250), memory.Extra("p", "c", "x", 1)]
    page.first = [compiling.First("what", 1.234, "loop", 1.0)]
    page.by_number = page.by_size = page.by_host = [scaling.Point(10, "who", 1e-3)]
    text = page.write(tmp_path)
    assert (
        "| GPT 22M | in training | nadam | loop | `torch NAdam()` | 1 | 2 | 0.50 | 0.50 to 0.50 "
        "| 0.35 |" in text
    )
    assert "0 of 1 are held." in text
    assert "| GPT 22M | nadam | 28 | 62.9 | 1 | 0.02 |" in text
    assert "| p | c | `who` | 1,250 | 12.50 |" in text
    assert "| what | loop | 1.23 | 1 | **no** |" in text
    assert text.count("| 10 | 1,000 |") == 3
    assert "| gone |" in text
    assert "other processes took 4% of the cores" in text
    assert "no result" not in text
    page.others = 0.06
    assert "The machine was busy: no result." in page.write(tmp_path)


def test_the_command_says_what_it_cannot_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--device", "cuda"]) == 2
    assert "No CUDA device here" in capsys.readouterr().out
    assert command.main(["--chains", "no such chain", "--output", str(tmp_path)]) == 2
    assert "Nobody fits" in capsys.readouterr().out
    assert command.main(["table", "speed"]) == 2
    assert "There is no part speed, only table, memory" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # of rivals
def test_the_table_of_a_gpu_is_made_on_a_cpu_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "PROBLEMS", {"tiny": ((4, 3), (3,))})
    monkeypatch.setattr(gpu, "rivals_installed", lambda chain: {})
    monkeypatch.setattr(machine, "bandwidth", lambda device: 1e9)
    assert gpu.table("cpu", True, tmp_path) == 0
    page = (tmp_path / "performance_gpu.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| tiny")]
    assert {line.split(" | ")[2] for line in lines} == gpu.ENTRIES.keys()
    assert not [line for line in lines if "Error" in line]


def test_the_bytes_of_a_gpus_table_are_those_that_a_step_moves():
    """A step reads the gradient, parameter and slots, and writes the last two."""
    for name, entry in gpu.ENTRIES.items():
        if entry.reads:
            like = torch.zeros(3)
            slots = fo.tree.leaves(entry.tx.init([like]).slots)
            once = 1 + 2 * (1 + sum(x.shape == like.shape for x in slots))
            again = {"clip + AdamW + EMA": 1, "LAMB": 4}.get(name, 0)
            assert entry.reads == once + again, name


# What is checked on a GPU, as far as a CPU can tell.


@pytest.mark.filterwarnings("ignore")  # of chains that ascend
def test_every_chain_of_the_tests_can_be_looked_at_for_waits(monkeypatch):
    modes = []
    monkeypatch.setattr(gpu, "_waiting_is", lambda device, mode: modes.append(mode))
    assert not list(gpu.waits("cpu"))
    assert modes.count("error") > 3 * 200


@pytest.mark.filterwarnings("ignore")
def test_every_class_can_be_captured_and_replayed(monkeypatch):
    known = {
        name
        for name, made in vars(fo.optim).items()
        if isinstance(made, type) and issubclass(made, torch.optim.Optimizer)
    }
    assert gpu.classes().keys() == known - {"Optimizer"}
    assert len(known) > 80
    assert not list(gpu.graphs("cpu", 5))
    monkeypatch.setattr(gpu, "Captured", lambda step, device: types.SimpleNamespace(replay=int))
    failed = {line.split(":")[1].strip() for line in gpu.graphs("cpu", 5)}
    assert failed == {name for name in gpu.classes() if name != "LBFGS"}
