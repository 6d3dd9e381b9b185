"""The page in one figure."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .duel import IN_TRAINING, Result
from .scaling import Point
from .targets import Row, rows

HELD, NOT_HELD, TARGET = "#0072b2", "#d55e00", "0.4"


def draw(
    results: Sequence[Result], by_number: Sequence[Point], by_size: Sequence[Point], path: Path
) -> None:
    """Targets on top; below, the time by the number of tensors, and by their size."""
    found = [row for row in rows(results) if row.held is not None]
    height = max(2.0, 0.22 * len(found))
    fig = Figure(figsize=(9.5, height + 3.6), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=[height, 3.2])
    targets(above.subplots(), found)
    left, right = below.subplots(1, 2)
    lines(left, by_number, "number of tensors, 64 elements each")
    lines(right, by_size, "elements of one tensor")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "funcopt", "svg.fonttype": "none"}):
        fig.savefig(path, metadata={"Date": None}, transparent=True)


def targets(ax: Axes, found: Sequence) -> None:
    """One line for each: the median, the quartiles, and the most that it may be."""
    for y, row in enumerate(found):
        color = HELD if row.held else NOT_HELD
        ax.plot(row.result.spread, [y, y], color=color, linewidth=2)
        ax.plot(row.result.ratio, y, "o", color=color, markersize=5)
        ax.plot(row.at_most, y, "|", color=TARGET, markersize=11, markeredgewidth=1.5)
    names = [f"{_ours(row)} / {row.result.theirs}" for row in found]
    ax.set_yticks(range(len(found)), names, fontsize=8.5)
    ax.set_ylim(-0.7, len(found) - 0.3)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.axvline(1, color="0.8", linewidth=1, zorder=0)
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel("ours / theirs, and the target (gray): left is faster")


def _ours(row: Row) -> str:
    parts = [row.problem, row.chain, row.result.form, row.mode]
    return ", ".join(part for part in parts if part not in ("optimizer", IN_TRAINING))


def lines(ax: Axes, points: Sequence[Point], axis: str) -> None:
    """Microseconds for a step of AdamW."""
    for name in dict.fromkeys(p.name for p in points):
        own = [p for p in points if p.name == name]
        ax.plot([p.x for p in own], [1e6 * p.seconds for p in own], ".-", label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(axis)
    ax.set_ylabel("us for a step of AdamW")
    ax.grid(alpha=0.3)
    if points:
        ax.legend(fontsize=9)
