"""How long a step takes on this machine, next to torch's optimizers: a table of medians."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from .. import optim
from .._core.explanation import Row, Table


class Effort(NamedTuple):
    """How thoroughly to measure."""

    seconds: float  # for all of it, about
    rounds: int  # the fewest in which each contender has its turn


QUICK, FULL = Effort(40.0, 7), Effort(280.0, 15)

MODELS: dict[str, list[tuple[int, ...]]] = {
    "200 of 1,000": [(1000,)] * 200,
    "a small transformer": [*[(256, 256)] * 24, *[(1024, 256), (256, 1024)] * 6, *[(256,)] * 48],
    "8 of 1,000,000": [(1_000_000,)] * 8,
}
"""The shapes of the parameters."""

WAYS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
"""How torch makes steps."""

OPTIMIZERS: dict[str, dict[str, float]] = {
    "SGD": {"lr": 1e-4, "momentum": 0.9},
    "AdamW": {"lr": 1e-4},
    "NAdam": {"lr": 1e-4},
    "Lion": {"lr": 1e-5},
}

Step = Callable[[], None]


def bench(effort: Effort, device: str = "cpu", markdown: bool = False) -> str:
    """Measures, and returns the table.

    Args:
        effort: How thoroughly.
        device: Where.
        markdown: Return it in Markdown.
    """
    rows = []
    each = effort.seconds / (len(MODELS) * len(OPTIMIZERS))
    for name, options in OPTIMIZERS.items():
        for model, shapes in MODELS.items():
            rows.append(_row(name, options, model, shapes, device, each, effort.rounds))
    columns = ("optimizer", "parameters", "funcopt", "engine", *WAYS, "best of torch / funcopt")
    threads = f"threads: {torch.get_num_threads()} of {os.cpu_count()}"
    where = torch.cuda.get_device_name() if device == "cuda" else threads
    closing = f"Milliseconds for a step: medians, on {device} ({where}), torch {torch.__version__}."
    table = Table("", columns, rows, closing=closing)
    return table.markdown() if markdown else table.text()


def _row(
    name: str,
    options: dict[str, float],
    model: str,
    shapes: Sequence[tuple[int, ...]],
    device: str,
    seconds: float,
    rounds: int,
) -> Row:
    ours = getattr(optim, name)(_parameters(shapes, device), **options)
    contenders: dict[str, Step] = {"funcopt": ours.step}
    for way, how in WAYS.items():
        if (theirs := getattr(torch.optim, name, None)) is not None:
            try:
                made = theirs(_parameters(shapes, device), **options, **how)
                made.step()
            except (TypeError, RuntimeError, NotImplementedError):  # it has no such way
                continue
            contenders[way] = made.step
    times = medians(contenders, seconds, rounds, _waiting(device))
    best = min((times[way] for way in WAYS if way in times), default=None)
    ratio = "" if best is None else f"{best / times['funcopt']:.2f}"
    cells = [f"{1e3 * times[way]:.3f}" if way in times else "-" for way in WAYS]
    return Row((name, model, f"{1e3 * times['funcopt']:.3f}", ours.engine, *cells, ratio))


def medians(
    contenders: dict[str, Step], seconds: float, rounds: int, wait: Step
) -> dict[str, float]:
    """The median time of a step of each, in seconds: they take turns, so that all meet the same."""
    counts = {}
    for name, step in contenders.items():
        for _ in range(3):  # it compiles, and fills caches
            step()
        wait()
        counts[name] = max(1, round(0.005 / _time(step, 1, wait)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    collects = gc.isenabled()
    gc.disable()
    try:
        while time.perf_counter() < end or len(found["funcopt"]) < rounds:
            for name, step in contenders.items():
                found[name].append(_time(step, counts[name], wait))
    finally:
        if collects:
            gc.enable()
    return {name: statistics.median(own) for name, own in found.items()}


def _time(step: Step, count: int, wait: Step) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - begin) / count


def _waiting(device: str) -> Step:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _parameters(shapes: Sequence[tuple[int, ...]], device: str) -> list[torch.nn.Parameter]:
    params = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params
