"""Many trainings at once against one after another: ``python -m benchmarks.sweeps``.

Trains N classifiers of digits by Adam, each with a learning rate of its own, in float32 on batches
of 32: by `funcopt.sweep`'s step, eager and compiled, and by N runs of torch.optim.Adam with
``fused=True``. One process, rounds interleaved, medians; a page in Markdown, ``sweeps_table.md``.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

import funcopt as fo

from . import machine

BATCH, ROUNDS = 32, 5
Params = dict[str, Tensor]


class Row(NamedTuple):
    """Milliseconds for one step of all models; seconds to compile."""

    network: str
    models: int
    loop: float
    eager: float
    compiled: float
    gradients: float
    first: float

    def __str__(self) -> str:
        each = [self.loop, self.eager, self.compiled, self.gradients]
        pays = self.first / max(self.loop - self.compiled, 1e-9) * 1e3
        cells = [
            self.network,
            str(self.models),
            *(f"{ms:.2f}" for ms in each),
            f"{self.loop / self.eager:.1f}",
            f"{self.loop / self.compiled:.1f}",
            f"{self.first:.0f}",
            f"{pays:,.0f}" if self.compiled < self.loop else "never",
        ]
        return f"| {' | '.join(cells)} |"


TITLE = "# Benchmarks: sweeps"
QUICK = "**A quick look: no result.** "
HEAD = """\
| network | models | one by one (ms) | eager (ms) | compiled (ms) | of it gradients (ms) \
| eager: times faster | compiled: times faster | compile (s) | pays after steps |
|---|---|---|---|---|---|---|---|---|---|"""


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


NETWORKS = {"MLP 64-32-10": mlp, "two convolutions": conv}


class Problem:
    """A network, and N trainings of it."""

    def __init__(self, make: Callable[[], nn.Module], models: int, dtype: torch.dtype) -> None:
        pixels, labels = load_digits(return_X_y=True)
        x = torch.tensor(pixels / 16, dtype=dtype).reshape(-1, 1, 8, 8)
        y = torch.tensor(labels)
        rows = torch.randint(len(y), (200, BATCH), generator=torch.Generator().manual_seed(0))
        self.batches = [(x[i], y[i]) for i in rows]
        torch.manual_seed(0)
        self.model = make().to(dtype)
        self.params = fo.split_module(self.model).params
        self.rates = torch.logspace(-4, 0, models, dtype=torch.float64)
        starts = [fo.TrainState.start(fo.adam(), self.params)] * models
        self.start = fo.stack(starts)

    def loss(self, params: Params, batch: Any) -> Tensor:
        return cross_entropy(functional_call(self.model, params, (batch[0],)), batch[1])

    def step(self, rate: Tensor, state: fo.TrainState, batch: Any) -> tuple[fo.TrainState, Tensor]:
        return fo.train_step(self.loss, fo.adam(rate))(state, batch)

    def together(self, compile: bool) -> Callable[[int], None]:
        """A function that makes so many steps of all models."""
        step = vmap(self.step, in_dims=(0, 0, None))
        step = torch.compile(step, fullgraph=True) if compile else step

        def run(steps: int) -> None:
            state = self.start
            with torch.no_grad():
                for i in range(steps):
                    state, _ = step(self.rates, state, self.batches[i % 200])

        return run

    def gradients(self) -> Callable[[int], None]:
        """The same without an optimizer: what the networks themselves cost."""
        mapped = vmap(grad_and_value(self.loss), in_dims=(0, None))
        compiled = torch.compile(mapped, fullgraph=True)

        def run(steps: int) -> None:
            with torch.no_grad():
                for i in range(steps):
                    compiled(self.start.params, self.batches[i % 200])

        return run

    def alone(self) -> Callable[[int], None]:
        """A function that makes so many steps of one model, as everybody writes it."""
        model = copy.deepcopy(self.model)
        opt = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

        def run(steps: int) -> None:
            for i in range(steps):
                x, y = self.batches[i % 200]
                opt.zero_grad()
                cross_entropy(model(x), y).backward()
                opt.step()

        return run


def seconds(run: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def measure(name: str, models: int, rounds: int) -> Row:
    """One row: warmed up, in rounds of about a third of a second each."""
    torch.compiler.reset()
    problem = Problem(NETWORKS[name], models, torch.float32)
    compiled = problem.together(compile=True)
    first = seconds(compiled, 3)
    runs = [problem.alone(), problem.together(compile=False), compiled, problem.gradients()]
    steps = [min(200, max(3, int(0.3 / (seconds(run, 3) / 3)))) for run in runs]
    times = [
        [1e3 * seconds(run, n) / n for run, n in zip(runs, steps, strict=True)]
        for _ in range(rounds)
    ]
    loop, eager, fast, gradients = (median(column) for column in zip(*times, strict=True))
    return Row(name, models, models * loop, eager, fast, gradients, first)


def limits(rows: Sequence[Row]) -> str:
    """What each row waits for, as shares of its times."""
    lines = [LIMITS]
    alone = {row.network: row.eager for row in rows if row.models == 1}
    for row in rows:
        calls = min(1.0, alone[row.network] / row.eager) if row.network in alone else float("nan")
        gradients = min(1.0, row.gradients / row.compiled)
        lines.append(f"| {row.network} | {row.models} | {calls:.0%} | {gradients:.0%} |")
    return "\n".join(lines)


LIMITS = """\
The limits. Eager, one model alone spends nearly all time on operator calls, whose number does not
depend on the number of models; the rest is arithmetic. Compiled, there is one call: the time beyond
the gradients of the networks is the optimizer, which reads and writes memory.

| network | models | eager: share of the calls | compiled: share of the gradients |
|---|---|---|---|"""


def headline(models: int, steps: int) -> str:
    """All of it, really run: so many runs of so many steps, both ways."""
    torch.compiler.reset()
    problem = Problem(mlp, models, torch.float32)
    together = problem.together(compile=True)
    together(3)
    torch.manual_seed(0)
    theirs = sum(seconds(problem.alone(), steps) for _ in range(models))
    ours = seconds(together, steps)
    return (
        f"{models} learning rates x {steps} steps of the MLP: {theirs:.2f} s one by one with "
        f"Adam(fused=True), {ours:.2f} s at once, compiled: **{theirs / ours:.1f} times faster**."
    )


def difference(models: int, steps: int) -> str:
    """The largest difference of any parameter of a run, in float64, and how many are above 1e-9."""
    problem = Problem(mlp, models, torch.float64)
    result = fo.sweep(
        problem.loss,
        fo.adam(),
        {"lr": problem.rates},
        problem.params,
        problem.batches[:steps],
        progress=False,
    )
    worst = []
    for i, rate in enumerate(problem.rates.tolist()):
        tx = fo.adam(rate)
        state = fo.TrainState.start(tx, problem.params)
        state, _ = fo.unroll(fo.train_step(problem.loss, tx), state, problem.batches[:steps])
        gaps = fo.tree.map(lambda a, b: (a - b).abs().max(), state.params, result.run(i).params)
        worst.append(max(gap.item() for gap in fo.tree.leaves(gaps)))
    near = sum(gap < 1e-9 for gap in worst)
    return (
        f"In float64, {near} of {models} end within 1e-9 of separate runs; the largest difference "
        f"is {max(worst):.1e} ([why](sweeps.md#equality-with-separate-runs))."
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--models", type=int, nargs="*", default=[1, 4, 16, 64, 256])
    made.add_argument("--steps", type=int, default=200)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--quick", action="store_true", help="to see that it runs: no result")
    made.add_argument("--output", type=Path, default=Path("out"), help="a folder (default: out)")
    options = made.parse_args()
    models, steps, rounds = options.models, options.steps, ROUNDS
    if options.quick:
        models, steps, rounds = [1, 4], 20, 1
    others = machine.Others()
    machine.only_cores(options.threads)
    start = time.perf_counter()
    page: list[str] = []

    def say(text: str) -> None:
        print(text, flush=True)
        page.append(text)

    say(f"{TITLE}\n")
    facts = f"{date.today():%Y-%m-%d}; {machine.description()}; float32, Adam, batches of {BATCH}"
    say(f"{QUICK if options.quick else ''}{facts}. [Guide](sweeps.md).\n")
    say(headline(64, steps))
    say(f"{difference(64, steps)}\n")
    say(HEAD)
    rows = []
    for name in NETWORKS:
        for count in models:
            rows.append(measure(name, count, rounds))
            say(str(rows[-1]))
    say(f"\n{limits(rows)}")
    minutes = (time.perf_counter() - start) / 60
    share = f"other programs had {others.share():.0%} of the cores"
    say(f"\nMeasured in {minutes:.0f} minutes; {share}.")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "sweeps_table.md"
    path.write_text("\n".join(page) + "\n")
    print(f"This is in {path} now.")


if __name__ == "__main__":
    main()
