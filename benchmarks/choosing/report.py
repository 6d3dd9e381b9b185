"""Table and figures of what `python -m benchmarks.choosing` has found."""

import json
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
BEGIN, END = "<!-- results: made by benchmarks/choosing/report.py -->", "<!-- end of results -->"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.7"

Found = dict[str, Any]


def table(digits: Found, letters: Found) -> str:
    """All methods, by their loss on the letters after the same number of steps."""
    a, b = digits["results"], letters["results"]
    lines = [
        "| | digits: loss, accuracy | in AdamW's time | letters: loss | in AdamW's time "
        "| lr (digits, letters) | time of a step | slots |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(b, key=lambda name: _last_if_nan(b[name]["steps"]["loss"])):
        d, t = a[name], b[name]
        lines.append(
            f"| {name} | {d['steps']['loss']:.3f} ± {d['steps']['scatter']:.3f}, "
            f"{d['steps']['accuracy']:.1%} | {d['time']['loss']:.3f} "
            f"| {t['steps']['loss']:.3f} ± {t['steps']['scatter']:.3f} | {t['time']['loss']:.3f} "
            f"| {_rate(d)}, {_rate(t)} | {t['pace']:.2f} "
            f"| {t['steps']['slots']:.1f} |"
        )
    return "\n".join(lines)


def draw_races(digits: Found, letters: Found) -> Figure:
    """The loss of every method in both races, the best on top."""
    figure = Figure(figsize=(9.5, 7.5), layout="constrained")
    for ax, found, title in zip(
        figure.subplots(1, 2),
        (digits, letters),
        ("digits: test loss", "letters: test loss"),
        strict=True,
    ):
        results = found["results"]
        names = sorted(results, key=lambda name: -_last_if_nan(results[name]["steps"]["loss"]))
        for row, name in enumerate(names):
            steps, time = results[name]["steps"], results[name]["time"]
            ax.plot([steps["loss"], time["loss"]], [row, row], color=GREY, linewidth=1, zorder=1)
            ax.errorbar(
                steps["loss"], row, xerr=steps["scatter"], fmt="o", color=BLUE, markersize=6
            )
            ax.plot(time["loss"], row, "D", color=ORANGE, markerfacecolor="none", markersize=6)
        ax.set_yticks(range(len(names)), names)
        ax.axvline(results["AdamW"]["steps"]["loss"], color=GREY, linestyle=":", zorder=0)
        ax.set_xlabel(title)
        if title.startswith("digits"):
            ax.set_xscale("log")
            ax.set_xticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"])
            ax.minorticks_off()
        ax.grid(alpha=0.3)
    ax.plot([], [], "o", color=BLUE, label="equal steps (mean and standard deviation over 3 seeds)")
    ax.plot([], [], "D", color=ORANGE, markerfacecolor="none", label="equal time, that of AdamW")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_rates(digits: Found, letters: Found) -> Figure:
    """How much the learning rate matters: the validation loss, relative to the best."""
    names = list(letters["results"])
    columns = 4
    figure = Figure(figsize=(9.5, 12), layout="constrained")
    panels = figure.subplots(math.ceil(len(names) / columns), columns, sharey=True, squeeze=False)
    for ax in panels.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(panels.flat, names, strict=False):
        for found, color, marker in ((digits, BLUE, "o"), (letters, ORANGE, "s")):
            swept = found["results"][name]["sweep"]
            best = min(swept["loss"])
            off = [min(loss / best, 10.0) for loss in swept["loss"]]
            ax.plot(swept["lr"], off, marker=marker, color=color, markersize=4, linewidth=1.2)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(0.93, 10)
        ax.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10 or more"])
        ax.minorticks_off()
        ax.set_title(name, fontsize=10)
        ax.grid(alpha=0.3)
    ax.plot([], [], "o-", color=BLUE, label="digits")
    ax.plot([], [], "s-", color=ORANGE, label="letters")
    figure.legend(loc="outside upper center", ncols=2)
    figure.supxlabel("learning rate")
    figure.supylabel("validation loss, relative to that of the best learning rate")
    return figure


def _rate(result: Found) -> str:
    """The best rate; marked if a better one may lie outside of what was tried."""
    tried = result["sweep"]["lr"]
    return f"{result['lr']:.1e}" + ("*" if result["lr"] in (tried[0], tried[-1]) else "")


def _last_if_nan(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def main() -> None:
    digits, letters = (
        json.loads((HERE / "results" / f"{task}.json").read_text())
        for task in ("digits", "letters")
    )
    for name, draw in (("races", draw_races), ("rates", draw_rates)):
        draw(digits, letters).savefig(DOCS / f"choosing_{name}.png", dpi=150)
    page = DOCS / "choosing.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(digits, letters)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
