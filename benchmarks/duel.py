"""Two who compute the same, timed in turns: A B, B A, A B, ..."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .contenders import Contender, Run, Stepping
from .ours import engine_of
from .problems import Problem

STEPS = 10  # before any timing; results are compared after them
TOLERANCE = 1e-4  # of the way that the parameters have gone
PAUSE = 5e-3  # seconds; the threads of the other one still spin for a while
FEWEST = 5  # rounds
DECAY = 1 - 1e-4  # of a learning rate, in each step

Grads = Sequence[list[Tensor]]
Clock = Callable[[Run, Grads, int], list[float]]
"""The seconds of each of so many steps."""


IN_TRAINING, WARM, SCHEDULED = "in training", "warm loop", "scheduled"
"""What comes between two steps: other work, or nothing but new gradients; or other work and another
learning rate, as a scheduler sets it."""


class Effort(NamedTuple):
    """How much to measure."""

    rounds: int = 45
    seconds: float = 0.02  # that one sample should last
    most_steps: int = 200
    limit: float = 60.0  # seconds for one duel, after which there are fewer rounds


FULL = Effort()
QUICK = Effort(rounds=FEWEST, seconds=0.01, most_steps=20)


class Duel(NamedTuple):
    """Who meets whom, where."""

    problem: Problem
    chain: str
    ours: Contender
    theirs: Contender
    mode: str = IN_TRAINING
    tolerance: float = TOLERANCE


class Result(NamedTuple):
    """Seconds for a step, in pairs that were taken one right after the other."""

    problem: str
    chain: str
    ours: str
    theirs: str
    engine: str = ""
    pairs: Sequence[tuple[float, float]] = ()
    apart: float = 0.0
    note: str = ""
    """Why there are no times, if there are none."""
    mode: str = IN_TRAINING

    def __str__(self) -> str:
        found = f"{self.ratio:.2f}" if self.pairs else self.note
        return f"{self.problem}, {self.mode}, {self.chain}, {self.theirs}: {found}"

    @property
    def form(self) -> str:
        """Which of our forms it is: "optimizer", "donated", "pure" or "one pass"."""
        last = self.ours.rpartition(", ")[2]
        return last if last in ("donated", "pure", "one pass") else "optimizer"

    @property
    def medians(self) -> tuple[float, float]:
        ours, theirs = zip(*self.pairs, strict=True)
        return median(ours), median(theirs)

    @property
    def ratio(self) -> float:
        """The median of the ratios of the pairs, ours / theirs: smaller is better.

        Memory is now faster, now slower, for seconds. That meets both of a pair, where the
        medians of all may be of one who met it fast and of one who met it slow.
        """
        return self._quartiles[1]

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the ratios of the pairs."""
        low, _, high = self._quartiles
        return low, high

    @property
    def _quartiles(self) -> list[float]:
        return quantiles((ours / theirs for ours, theirs in self.pairs), n=4)


def run(duel: Duel, effort: Effort = FULL, clock: Clock | None = None) -> Result:
    """Checks that both compute the same, then times them."""
    problem = duel.problem
    row = Result(problem.name, duel.chain, duel.ours.name, duel.theirs.name, mode=duel.mode)
    if excuse := duel.theirs.excuse(problem):
        return row._replace(note=excuse)
    grads = [problem.grads(number) for number in range(2)]
    ours = warmed(duel.ours, problem, grads)
    try:
        theirs = warmed(duel.theirs, problem, grads)
    except Exception as error:  # theirs to explain; the others go on
        return row._replace(note=f"failed: {type(error).__name__}: {error}".splitlines()[0])
    if not duel.theirs.differs:
        apart = difference(problem.params(), ours.values(), theirs.values())
        row = row._replace(apart=apart)
        if not apart < duel.tolerance:  # nor if it is NaN
            return row._replace(note=f"computes something else: {apart:.0e} apart")
    if clock is None:
        on_cpu = {IN_TRAINING: in_training, SCHEDULED: scheduled}.get(duel.mode, on_host)
        clock = on_stream if problem.device == "cuda" else on_cpu
    pairs = list(in_turns(ours, theirs, grads, effort, clock))
    return row._replace(engine=engine_of(ours), pairs=pairs)


def warmed(contender: Contender, problem: Problem, grads: Grads) -> Run:
    """Ready to be timed: compiled, with all of its state."""
    made = contender.make(problem)
    for i in range(STEPS):
        made.give(grads[i % 2])
        made.step()
    return made


def difference(start: Sequence[Tensor], ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """How far the two are apart, as a share of how far we have come."""
    start = [*start, *start][: len(ours)]  # the averages began where the parameters did
    apart, way = 0.0, 0.0
    for s, a, b in zip(start, ours, theirs, strict=True):
        apart += float(vector_norm(a.detach() - b.detach(), dtype=torch.float64)) ** 2
        way += float(vector_norm(a.detach() - s, dtype=torch.float64)) ** 2
    return (apart / way) ** 0.5 if way else float("nan")


def in_turns(
    ours: Run, theirs: Run, grads: Grads, effort: Effort, clock: Clock
) -> Iterator[tuple[float, float]]:
    """Seconds for a step of each; who comes first changes."""
    steps, both = [], 0.0
    for one in (ours, theirs):
        begin = time.perf_counter()
        seconds = sample(one, grads, 3, clock)
        whole = (time.perf_counter() - begin - PAUSE) / 4  # with what comes between two steps
        fit = min(effort.seconds / seconds, 5 * effort.seconds / whole)
        steps.append(max(1, min(effort.most_steps, round(fit))))
        both += PAUSE + (1 + steps[-1]) * seconds
    rounds = max(FEWEST, min(effort.rounds, int(effort.limit / both)))
    order = [(0, ours), (1, theirs)]
    with no_garbage_collection():
        for _ in range(rounds):
            found = {i: sample(one, grads, steps[i], clock) for i, one in order}
            yield found[0], found[1]
            order.reverse()


def sample(run: Run, grads: Grads, steps: int, clock: Clock) -> float:
    """The median time of that many steps, after one more that is not counted."""
    time.sleep(PAUSE)
    return median(clock(run, grads, steps + 1)[1:])


def on_host(run: Run, grads: Grads, steps: int) -> list[float]:
    """Until the call returns: all of it on a CPU, its launch on a GPU."""
    times = []
    for i in range(steps):
        run.give(grads[i % 2])
        if grads[0][0].is_cuda:
            torch.cuda.synchronize()  # or its queue may be full
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    return times


def in_training(run: Run, grads: Grads, steps: int) -> list[float]:
    """Until the call returns, after a forward and a backward pass of a small model.

    These leave the caches to others, and the threads at work on something else.
    """
    times = []
    work = OtherWork()
    for i in range(steps):
        work()
        run.give(grads[i % 2])
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    return times


def scheduled(run: Run, grads: Grads, steps: int) -> list[float]:
    """As in training, with another learning rate in each step."""
    assert isinstance(run, Stepping)
    times = []
    work = OtherWork()
    for i in range(steps):
        work()
        run.give(grads[i % 2])
        for group in run.opt.param_groups:
            group["lr"] *= DECAY
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    return times


class OtherWork:
    """Forward and backward through two layers, and 8 MB that are read and written."""

    def __init__(self, width: int = 256, batch: int = 64) -> None:
        self._model = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, width)
        )
        self._batch, self._memory = torch.randn(batch, width), torch.zeros(2**21)

    def __call__(self) -> None:
        self._model.zero_grad()
        self._model(self._batch).square().mean().backward()
        self._memory.add_(1.0)


def on_stream(run: Run, grads: Grads, steps: int) -> list[float]:
    """Between two marks in the GPU's stream; the host may run ahead, as in training."""
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(steps)]
    for i, (start, end) in enumerate(marks):
        run.give(grads[i % 2])
        start.record()
        run.step()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in marks]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """It would come in the middle of somebody's step."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
