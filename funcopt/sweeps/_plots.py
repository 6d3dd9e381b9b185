"""The figures of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from .._core.extras import BLUE, GREY, RED
from ._settings import Setting

STAR: dict[str, Any] = {
    "marker": "*",
    "linestyle": "none",
    "markersize": 14,
    "color": RED,
    "markeredgecolor": "white",
    "zorder": 5,
}
"""How the best run is marked."""


def draw_sweep(
    settings: Sequence[Setting], losses: Tensor, score: Tensor, of: str, best: int
) -> Figure:
    """The score, which is called `of`, over the hyperparameters that vary; `best` is marked."""
    scores = score.detach().double().cpu().numpy()
    rows = [{k: v for k, v in row.items() if k != "seed"} for row in settings]
    varying = {
        name: [row[name] for row in rows]
        for name in rows[0]
        if any(row[name] != rows[0][name] for row in rows)
    }
    if not varying:
        return _curves(settings, losses.detach().double().cpu().numpy(), best)
    if len(varying) == 2 and _is_grid(varying):
        return _heat_map(varying, scores, of, best)
    return _points(varying, scores, of, best)


def _curves(settings: Sequence[Setting], losses: Any, best: int) -> Figure:
    """The runs differ only in their seeds: their losses from step to step."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    ax.plot(losses.T, color=GREY, linewidth=0.7)
    ax.plot(losses.mean(0), color=BLUE, linewidth=2, label=f"mean of {len(losses)} runs")
    own = {"seed": settings[best]["seed"]} if "seed" in settings[best] else {}
    ax.plot(losses[best], color=RED, linewidth=1.5, label=_best_of(own, best))
    ax.set(xlabel="step", ylabel="loss", **_scale("y", losses))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def _points(varying: dict[str, list[Any]], scores: Any, of: str, best: int) -> Figure:
    """A panel for each hyperparameter; a line through the means where it is the only one."""
    figure = Figure(figsize=(1.5 + 5 * len(varying), 4.5), layout="constrained")
    axes = figure.subplots(1, len(varying), sharey=True, squeeze=False)[0]
    finite = np.isfinite(scores)
    mark = _best_of({name: column[best] for name, column in varying.items()}, best)
    for ax, (name, column) in zip(axes, varying.items(), strict=True):
        xs, names = _numbers(column)
        ax.plot(xs[finite], scores[finite], ".", color=GREY if len(varying) == 1 else BLUE)
        if len(varying) == 1:
            at = np.unique(xs)
            means = [scores[xs == x].mean() for x in at]
            ax.plot(at, np.where(np.isfinite(means), means, np.nan), color=BLUE, linewidth=2)
            ax.margins(y=0.15)
        if finite[best]:
            ax.plot(xs[best], scores[best], label=None if ax is not axes[0] else mark, **STAR)
        for x in xs[~finite]:
            ax.axvline(x, color=RED, linewidth=0.6, alpha=0.5)
        ax.set(xlabel=name, **_scale("x", xs), **_scale("y", scores))
        if names is not None:
            ax.set_xticks(range(len(names)), names)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(of)
    if finite[best]:
        axes[0].legend()
    if not finite.all():
        figure.suptitle(
            f"{(~finite).sum()} of {len(scores)} runs diverged (vertical lines)", size=9
        )
    return figure


def _heat_map(varying: dict[str, list[Any]], scores: Any, of: str, best: int) -> Figure:
    """Two hyperparameters on a grid: a cell for each pair, the mean over seeds."""
    (x_name, x_column), (y_name, y_column) = varying.items()
    xs, ys = list(dict.fromkeys(x_column)), list(dict.fromkeys(y_column))
    cells = np.full((len(ys), len(xs)), np.nan)
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            here = [a == x and b == y for a, b in zip(x_column, y_column, strict=True)]
            cells[i, j] = scores[np.array(here)].mean()
    cells[~np.isfinite(cells)] = np.nan
    figure = Figure(figsize=(2.5 + 0.6 * len(xs), 2 + 0.5 * len(ys)), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor("0.85")  # where it diverged
    norm = LogNorm() if _scale("y", cells) else Normalize()
    image = ax.imshow(cells, origin="lower", aspect="auto", cmap="viridis_r", norm=norm)
    figure.colorbar(image, label=of)
    for i, j in np.ndindex(*cells.shape):
        if cells.size <= 100:
            low = np.isfinite(cells[i, j]) and norm(cells[i, j]) > 0.5
            shown = f"{cells[i, j]:.3g}" if np.isfinite(cells[i, j]) else "-"
            ax.text(j, i, shown, ha="center", va="center", color="w" if low else "k", size=8)
    if np.isfinite(scores[best]):
        at = xs.index(x_column[best]) + 0.36, ys.index(y_column[best]) + 0.36
        mark = _best_of({x_name: x_column[best], y_name: y_column[best]}, best)
        ax.plot(*at, label=mark, **STAR)
        figure.legend(loc="outside lower center")
    ax.set_xticks(range(len(xs)), [_short(x) for x in xs], rotation=45, ha="right")
    ax.set_yticks(range(len(ys)), [_short(y) for y in ys])
    ax.set(xlabel=x_name, ylabel=y_name)
    return figure


def _best_of(setting: Mapping[str, Any], best: int) -> str:
    """What the legend says of the best run."""
    values = ", ".join(f"{name} = {_short(value)}" for name, value in setting.items())
    return f"best: {values or f'run {best}'}"


def _is_grid(varying: dict[str, list[Any]]) -> bool:
    pairs = set(zip(*varying.values(), strict=True))
    sizes = [len(set(column)) for column in varying.values()]
    return len(pairs) == sizes[0] * sizes[1]


def _numbers(column: list[Any]) -> tuple[Any, list[str] | None]:
    """Values as places on an axis; those that are no numbers, such as tuples, by their order."""
    if all(isinstance(x, (int, float)) for x in column):
        return np.array(column, dtype=float), None
    distinct = list(dict.fromkeys(map(_short, column)))
    return np.array([distinct.index(_short(x)) for x in column], dtype=float), distinct


def _scale(axis: str, values: Any) -> dict[str, str]:
    """A logarithmic axis where values are positive and span more than a factor of twenty."""
    finite = np.asarray(values)[np.isfinite(values)]
    wide = finite.size > 1 and finite.min() > 0 and finite.max() > 20 * finite.min()
    return {f"{axis}scale": "log"} if wide else {}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
