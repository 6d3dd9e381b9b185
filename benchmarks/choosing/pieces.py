"""One piece of the comparison: what becomes of one optimizer on one task.

The budget is the same for all. With `search`: six learning rates, and then two other values of the
second number with the best of them and its two neighbors. With `refine`, which begins where the
same letters ended: four learning rates and the two other values, half as many.
"""

import math
import time
from collections.abc import Sequence
from datetime import date
from statistics import mean
from typing import Any, NamedTuple

import torch

import funcopt as fo

from .methods import Method, transformation
from .tasks import Task, loss_of

SEEDS = (1, 2, 3)  # of the trainings that count; those of the search are others
SEARCH, REFINE = 12, 6  # settings
HALF_DECADE = 10**0.5

Found = dict[str, Any]


class Setting(NamedTuple):
    """What is free."""

    lr: float
    second: Any


class Tried(NamedTuple):
    """A setting, and the mean loss on held-out data after trainings with it."""

    setting: Setting
    loss: float


class Trained(NamedTuple):
    """What has become of a training; the losses are infinite where one was not finite."""

    validation: float
    loss: float
    accuracy: float
    slots: float  # numbers remembered, for each that is trained


def trained(task: Task, method: Method, setting: Setting, seed: int) -> Trained:
    """A training as everybody does it, with a torch optimizer."""
    torch.manual_seed(seed)
    model = task.model()
    opt = fo.Optimizer(model.named_parameters(), transformation(method, *setting, task.steps))
    for x, y in task.batches(seed, task.steps):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            opt.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            return loss

        if not opt.step(closure).isfinite():
            return Trained(math.inf, math.inf, 0.0, math.nan)
    opt.eval()
    params = list(model.parameters())
    kept = sum(t.numel() for p in params for t in opt.state[p].values())
    with torch.no_grad():
        validation = loss_of(model(task.validation[0]), task.validation[1]).item()
        logits, y = model(task.test[0]), task.test[1]
        loss, accuracy = loss_of(logits, y).item(), (logits.argmax(-1) == y).float().mean().item()
    return Trained(
        validation if math.isfinite(validation) else math.inf,
        loss if math.isfinite(loss) else math.inf,
        accuracy,
        kept / sum(p.numel() for p in params),
    )


def search(task: Task, method: Method) -> list[Tried]:
    """Learning rates from a tenth of the guess, and the second number with the best of them."""
    first = method.values[0]
    rates = [rounded(method.lr * HALF_DECADE**k) for k in range(-2, 4)]
    found = tried(task, method, [Setting(lr, first) for lr in rates])
    lr = best(found).setting.lr
    others = [
        Setting(rounded(method.moved(lr, first, value) * HALF_DECADE**k), value)
        for value in method.values[1:]
        for k in (-1, 0, 1)
    ]
    return found + tried(task, method, others)


def refine(task: Task, method: Method, start: Setting) -> list[Tried]:
    """Learning rates from a tenth of that of a smaller model, then the second number."""
    rates = [rounded(start.lr * HALF_DECADE**k) for k in range(-2, 2)]
    found = tried(task, method, [Setting(lr, start.second) for lr in rates])
    lr = best(found).setting.lr
    values = [value for value in method.values if value != start.second]
    others = [Setting(rounded(method.moved(lr, start.second, value)), value) for value in values]
    return found + tried(task, method, others)


def tried(task: Task, method: Method, settings: Sequence[Setting]) -> list[Tried]:
    def validation(setting: Setting) -> float:
        return mean(trained(task, method, setting, seed).validation for seed in task.search)

    return [Tried(each, validation(each)) for each in settings]


def rounded(lr: float) -> float:
    """To four digits, as it can be typed in."""
    return float(f"{lr:.4g}")


def best(found: Sequence[Tried]) -> Tried:
    """The lowest loss; the smallest learning rate, if there is none."""
    return min(found, key=lambda each: (each.loss, each.setting.lr))


def piece(task: Task, method: Method, start: Setting | None = None) -> Found:
    """The search and three trainings on other data, as it is written in a file."""
    begin = time.process_time()
    result: Found = {"method": method.description()}
    try:
        result.update(_searched_and_raced(task, method, start))
    except Exception as error:  # one method's fault does not end the comparison of the others
        result["error"] = f"{type(error).__name__}: {error}"
    result["cpu_seconds"] = round(time.process_time() - begin, 1)
    result["date"] = date.today().isoformat()
    return result


def _searched_and_raced(task: Task, method: Method, start: Setting | None) -> Found:
    found = search(task, method) if start is None else refine(task, method, start)
    rows = [{"lr": s.lr, "second": s.second, "loss": finite(loss)} for s, loss in found]
    result: Found = {"start": None if start is None else start._asdict(), "search": rows}
    if not math.isfinite(best(found).loss):
        return {**result, "diverged": True}
    chosen = best(found).setting
    runs = [trained(task, method, chosen, seed) for seed in SEEDS]
    result.update(chosen=chosen._asdict(), slots=finite(runs[0].slots), runs=listed(runs))
    if start is None:
        first = best(found[: SEARCH // 2]).setting
        others = runs if first == chosen else [trained(task, method, first, s) for s in SEEDS]
        result["rate_only"] = {**first._asdict(), "runs": listed(others)}
    return result


def listed(runs: Sequence[Trained]) -> list[Found]:
    return [{"loss": finite(run.loss), "accuracy": finite(run.accuracy)} for run in runs]


def finite(x: float) -> float | None:
    """What JSON has no word for is `None`."""
    return round(x, 6) if math.isfinite(x) else None
