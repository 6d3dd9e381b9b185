"""The learning rate range test: the learning rate is raised until the loss diverges."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.extras import BLUE, GREY, RED, new_figure, saved
from .._core.kinds import check_batches, check_function, check_module, check_optimizer
from .._core.progress import Bar
from ..errors import HyperparameterError
from ._restore import restored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batch = Any
WINDOW = 0.1
"""Over which share of the range, in the logarithm of the learning rate, losses are averaged."""


class _RunningMean:
    """An exponential moving average of losses, with bias correction."""

    KEPT = 0.9

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        self._sum = self.KEPT * self._sum + value
        self._weight = self.KEPT * self._weight + 1.0
        return self._sum / self._weight


class LRRangeTest(NamedTuple):
    """What `find_lr` returns: the loss at each learning rate, up to where it diverged."""

    lrs: list[float]
    losses: list[float]

    @property
    def smooth_losses(self) -> list[float]:
        """The losses, each the mean over its neighbors."""
        reach = max(1, round(WINDOW * len(self.losses) / 2))
        parts = (self.losses[max(0, i - reach) : i + reach + 1] for i in range(len(self.losses)))
        return [math.fsum(part) / len(part) for part in parts]

    @property
    def suggestion(self) -> float | None:
        """The learning rate at which the loss falls fastest; `None` if it never falls.

        That is the steepest descent of `smooth_losses` over the logarithm of the learning rate,
        before their minimum: the largest safe learning rate is a few times that.
        """
        losses = self.smooth_losses
        lowest = losses.index(min(losses))
        slopes = [losses[i + 1] - losses[i - 1] for i in range(1, lowest)]
        if not slopes or min(slopes) >= 0:
            return None
        return self.lrs[1 + slopes.index(min(slopes))]

    def __repr__(self) -> str:
        found = "none" if self.suggestion is None else f"{self.suggestion:.3g}"
        reach = f"{self.lrs[0]:.3g} to {self.lrs[-1]:.3g}"
        return f"LRRangeTest({len(self.lrs)} steps from {reach}; suggestion: {found})"

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draws the losses over the learning rate, and marks the suggestion.

        Args:
            path: Where to save the figure, if at all.

        Returns:
            The figure.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        figure = new_figure("LRRangeTest.plot", 7, 4.5)
        ax = figure.subplots()
        smooth = self.smooth_losses
        ax.plot(self.lrs, self.losses, ".", color=GREY, markersize=4, label="loss")
        ax.plot(self.lrs, smooth, color=BLUE, linewidth=2, label="smoothed")
        if self.suggestion is not None:
            at = self.lrs.index(self.suggestion)
            ax.plot(self.suggestion, smooth[at], "o", color=RED)
            ax.axvline(
                self.suggestion, color=RED, linewidth=1, label=f"suggestion: {self.suggestion:.2g}"
            )
        low, high = min(smooth), max(smooth[: smooth.index(min(smooth)) + 1])
        room = 0.25 * (high - low) or 1.0
        ax.set(xlabel="lr", ylabel="loss", xscale="log", ylim=(low - room, high + 2 * room))
        ax.grid(alpha=0.3)
        ax.legend()
        return saved(figure, path)


def find_lr(
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
    loss: Callable[[torch.nn.Module, Batch], Tensor],
    batches: Iterable[Batch],
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    stop_at: float = 4.0,
    progress: bool = True,
) -> LRRangeTest:
    """Runs a learning rate range test: finds the learning rate at which the loss falls fastest.

        found = find_lr(opt, model, lambda model, batch: model(batch).square().mean(), loader)
        found.plot("lr.png")
        found.suggestion

    The learning rate of step i is ``start (end / start)^(i / (steps - 1))``; with several parameter
    groups that is the largest one, and the others keep their ratios to it. The test ends early
    where the loss is no longer finite, or its running mean above `stop_at` times the lowest one.
    Whatever happens, everything is restored exactly afterwards: parameters, buffers, gradients,
    optimizer state, groups, and torch's random generators. With several ranks, all have to call
    it, and the mean of their losses counts.

    It works with any torch optimizer whose groups have an `lr` that may be set: those of
    `torch.optim` too, and those that evaluate the loss again.

    Args:
        optimizer: The optimizer; nothing is logged by `log_to` meanwhile.
        model: The model, in the mode in which it is to be trained.
        loss: ``loss(model, batch)``, a 0-d tensor.
        batches: Gone through as often as it takes; an iterator is used up.
        start: The first learning rate.
        end: The last one.
        steps: How many steps there are.
        stop_at: The multiple of the lowest loss that counts as divergence; for positive losses.
        progress: Show a bar, if tqdm is installed, on interactive terminals and in notebooks.

    Returns:
        The learning rates and the losses, with `suggestion` and `plot()`.

    Raises:
        HyperparameterError: If `start` is not below `end`, there is no batch, the first loss is
            not finite, or the `lr` of a group follows a schedule or is missing.

    References:
        Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
        https://arxiv.org/abs/1506.01186
    """
    check_optimizer("find_lr", optimizer)
    check_module("find_lr", model)
    check_function("find_lr", "loss", loss, "find_lr(optimizer, model, loss, batches)")
    check_batches("find_lr", batches)
    checks.whole_number("find_lr", "steps", steps, least=3)
    checks.open_interval("find_lr", "stop_at", stop_at, 1.0)
    checks.positive("find_lr", "start", start)
    checks.open_interval("find_lr", "end", end, start)
    ratios = _ratios(optimizer)
    lrs: list[float] = []
    losses: list[float] = []
    running, lowest = _RunningMean(), math.inf
    with restored(optimizer, model), Bar(progress, steps) as bar:
        for i, batch in zip(range(steps), _endless(batches), strict=False):
            lr = start * (end / start) ** (i / (steps - 1))
            _set_lr(optimizer, [lr * ratio for ratio in ratios])
            value = _step(optimizer, model, loss, batch)
            if not math.isfinite(value):
                break
            lrs.append(lr)
            losses.append(value)
            mean = running.add(value)
            lowest = min(lowest, mean)
            if mean > stop_at * abs(lowest):
                break
            bar.update()
    if not losses:
        raise HyperparameterError(
            "`find_lr`: there is no finite loss: `batches` is empty, or the model has diverged."
        )
    return LRRangeTest(lrs, losses)


def _ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """The learning rate of each group, as a share of the largest."""
    schedules: list[Any] = getattr(getattr(optimizer, "_groups", None), "schedules", [])
    for i, group in enumerate(optimizer.param_groups):
        if "lr" not in group:
            raise HyperparameterError(f"`find_lr`: parameter group {i} has no `lr`.")
        if i < len(schedules) and "lr" in schedules[i]:
            raise HyperparameterError(
                f"`find_lr`: the `lr` of parameter group {i} follows {schedules[i]['lr']!r}, and "
                "cannot be set: make the optimizer with a number, and use the one that is found in "
                "the schedule."
            )
    each = [float(group["lr"]) for group in optimizer.param_groups]
    return [lr / max(each) if max(each) else 1.0 for lr in each]


def _set_lr(optimizer: torch.optim.Optimizer, lrs: list[float]) -> None:
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def _step(optimizer: torch.optim.Optimizer, model: Any, loss: Any, batch: Any) -> float:
    """The loss before a step, which is made."""

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            value: Tensor = loss(model, batch)
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()  # type: ignore[return-value]  # as torch takes it

    found = optimizer.step(closure)
    return float(_mean_over_ranks(torch.as_tensor(found)))


def _mean_over_ranks(value: Tensor) -> Tensor:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches again and again; those of an iterator once."""
    found = True
    while found:
        found = False
        for batch in batches:
            found = True
            yield batch
