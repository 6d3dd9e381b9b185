"""What bits cost: the letters of `choosing`, with parameters and slots in fewer of them.

    python -m benchmarks.low_precision accuracy  # prints rows of a table: loss of three seeds
    python -m benchmarks.low_precision speed     # the same for the time of a step, on GPT 22M
    python -m benchmarks.low_precision figure    # draws what stands in the table of the docs

Speed is that of the whole step, beside AdamW in float32 in the same run.
"""

import itertools
import operator
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from matplotlib.figure import Figure

import funcopt as fo

from . import machine
from .choosing.tasks import Task, letters, loss_of
from .problems import problem

PAGE = Path(__file__).parents[1] / "docs" / "low_precision.md"
SEEDS = (0, 1, 2)
BF16, FP32 = torch.bfloat16, torch.float32


class Way(NamedTuple):
    """How parameters and slots are stored."""

    name: str
    dtype: torch.dtype  # of the parameters; gradients have it too
    around: Callable[[fo.GradientTransformation], fo.GradientTransformation]


def in_bits(rounding: Any, form: Any = None) -> Callable[..., fo.GradientTransformation]:
    def around(tx: fo.GradientTransformation) -> fo.GradientTransformation:
        return fo.rounded(tx if form is None else fo.quantized(tx, form, min_size=256), rounding)

    return around


WAYS = [
    Way("fp32", FP32, lambda tx: tx),
    *(
        Way(f"fp32, {form} slots", FP32, lambda tx, form=form: fo.quantized(tx, form, min_size=256))
        for form in ("8bit", "4bit", "fp8", "bf16+8", "bf16")
    ),
    *(
        Way(f"bf16, {rounding}", BF16, in_bits(rounding))
        for rounding in ("nearest", "stochastic", "kahan", "remainder8", "remainder", "master")
    ),
    Way("bf16, stochastic, 8bit slots", BF16, in_bits("stochastic", "8bit")),
]
"""Slots of bf16 parameters are in bf16 themselves, but where a form is named."""


def is_hidden(name: str, p: torch.Tensor) -> str:
    """The label of a parameter for Muon."""
    return "muon" if p.ndim == 2 and "block" in name else "adamw"


RULES: dict[str, Callable[[Any], fo.GradientTransformation]] = {
    "AdamW": lambda lr: fo.adamw(lr(1e-2)),
    "Lion": lambda lr: fo.lion(lr(1e-3), weight_decay=0.01),
    "Muon and AdamW": lambda lr: fo.partition(
        {"muon": fo.muon(lr(2e-2)), "adamw": fo.adamw(lr(1e-2))}, is_hidden
    ),
    "Adafactor": lambda lr: fo.adafactor(lr(3e-2)),
}


def trained(task: Task, rule: str, way: Way, seed: int) -> float:
    """The test loss after all steps."""
    torch.manual_seed(seed)
    model = task.model().to(way.dtype)
    warmup = task.steps // 10

    def lr(peak: float) -> Any:
        return fo.warmup_cosine_decay_schedule(
            peak / warmup, peak, warmup, decay_steps=task.steps, end_value=peak / 100
        )

    opt = fo.Optimizer(model.named_parameters(), way.around(RULES[rule](lr)))
    for x, y in task.batches(seed, task.steps):
        opt.zero_grad()
        loss_of(model(x).float(), y).backward()
        opt.step()
    x, y = task.test
    with torch.no_grad():
        return float(loss_of(model.to(FP32)(x), y))


def accuracy(steps: int = 300) -> None:
    """Prints a row for each way: the loss of every rule, mean and deviation over the seeds."""
    task = letters(steps)
    print("| | " + " | ".join(RULES) + " |")
    print("|---" * (len(RULES) + 1) + "|")
    for way in WAYS:
        cells = []
        for rule in RULES:
            found = [trained(task, rule, way, seed) for seed in SEEDS]
            cells.append(f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}")
        print(f"| {way.name} | {' | '.join(cells)} |", flush=True)


ENGINES: tuple[Literal["fused", "compiled"], ...] = ("fused", "compiled")


def speed(rounds: int = 15) -> None:
    """Prints the time of a step of each way by each engine, over that of AdamW in float32."""
    steps = {
        (way.name, engine): step
        for way in WAYS
        for engine, step in zip(ENGINES, steppers(way), strict=True)
    }
    for step, _ in itertools.product(steps.values(), range(3)):
        step()
    times: dict[Any, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begin)
    print(machine.description())
    first = times["fp32", "fused"]
    print(f"{'':32} {'fused':>8} {'compiled':>8}   of {1e3 * statistics.median(first):.1f} ms")
    for way in WAYS:
        ratios = (
            statistics.median(map(operator.truediv, times[way.name, engine], first))
            for engine in ENGINES
        )
        print(f"{way.name:32} " + " ".join(f"{x:8.2f}" for x in ratios))


def steppers(way: Way) -> list[Callable[[], None]]:
    """A step of AdamW by each engine, of the same parameters."""
    gpt = problem("GPT 22M")
    params = [torch.nn.Parameter(p.to(way.dtype)) for p in gpt.params()]
    for p, g in zip(params, gpt.grads(0), strict=True):
        p.grad = g.to(way.dtype)
    named = [(str(k), p) for k, p in enumerate(params)]
    tx = way.around(fo.adamw(1e-4))
    return [fo.Optimizer(named, tx, engine=engine).step for engine in ENGINES]


def figure() -> None:
    """Draws how far each way ends from fp32, with the deviation over the seeds."""
    rows = re.findall(r"^\| ((?:fp32|bf16).*?) \|(.* ± .*)\|$", PAGE.read_text(), re.MULTILINE)
    table = {
        name: [tuple(map(float, cell.split(" ± "))) for cell in cells.split("|")]
        for name, cells in rows
    }
    fig = Figure(figsize=(9.5, 4.4), layout="constrained")
    axes = fig.subplots(1, len(RULES), sharey=True)
    for k, (ax, rule) in enumerate(zip(axes, RULES, strict=True)):
        exact, scatter = table["fp32"][k]
        ax.axvspan(-scatter, scatter, color="0.88")
        for y, row in enumerate(table.values()):
            mean, deviation = row[k]
            ax.errorbar(mean - exact, y, xerr=deviation, fmt="o", color="#0072b2", capsize=3)
        ax.set_xlim(-0.12, 0.12)
        ax.set_title(rule, fontsize=10)
        ax.grid(alpha=0.3, axis="x")
        ax.set_yticks(range(len(table)), list(table))
    ax.invert_yaxis()
    fig.supxlabel("test loss, from that of fp32; gray: the scatter of fp32 over three seeds")
    fig.savefig(PAGE.with_suffix(".png"), dpi=150)


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1 if "accuracy" in argv else torch.get_num_threads())
    {"accuracy": accuracy, "speed": speed, "figure": figure}[argv[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
