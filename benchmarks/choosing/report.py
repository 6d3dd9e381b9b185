"""The tables and figures of what `python -m benchmarks.choosing` has found, complete or not.

python -m benchmarks.choosing.report
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .intervals import Interval, as_good_as_best, difference, interval
from .methods import EXCEPTIONS, KNOWN, METHODS
from .pieces import SEARCH, Found
from .store import SMALLER, all_read

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- results: made by benchmarks/choosing/report.py -->", "<!-- end of results -->"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.7"
NOTHING = "\N{EN DASH}"
CLASSES = {"digits": 10, "letters": 128, "letters_1m": 128}
TITLES = {"digits": "digits", "letters": "letters", "letters_1m": "letters, 1M"}

Results = dict[str, dict[str, Found]]  # by task and method


def losses(found: dict[str, Found], key: str = "runs") -> dict[str, list[float]]:
    """By method, those of all seeds, on the test data."""
    runs = {name: result for name, result in found.items() if "runs" in result}
    return {name: losses_of(result["runs"]) for name, result in runs.items()}


def losses_of(runs: Sequence[Found]) -> list[float]:
    return [math.inf if run["loss"] is None else run["loss"] for run in runs]


def judged(results: Results) -> Results:
    """The same, where seeds that end no better than a guess among all classes have diverged."""
    return {
        task: {name: _judged(result, math.log(CLASSES[task])) for name, result in found.items()}
        for task, found in results.items()
    }


def _judged(result: Found, guess: float) -> Found:
    def of(runs: Sequence[Found]) -> list[Found]:
        lost = [run["loss"] is None or run["loss"] >= guess for run in runs]
        return [{**x, "loss": None} if out else x for x, out in zip(runs, lost, strict=True)]

    found = dict(result)
    if "runs" in found:
        found["runs"] = of(found["runs"])
    if "rate_only" in found:
        found["rate_only"] = {**found["rate_only"], "runs": of(found["rate_only"]["runs"])}
    return found


def section(results: Results) -> str:
    """All that stands between the marks of the page; the tables have the tasks with results."""
    results = judged(results)
    part = begun(results)
    return "\n\n".join([summary(results), table(part), settings(part)])


def begun(results: Results) -> Results:
    """The tasks that have a result."""
    return {task: found for task, found in results.items() if found}


def summary(results: Results) -> str:
    """How much is there, who is at the top, who fails, and what the second number gains."""
    counts = ", ".join(
        f"{TITLES[task]} {len(found)} of {len(METHODS)}" for task, found in results.items()
    )
    dates = sorted(result["date"] for found in results.values() for result in found.values())
    when = "" if not dates else f", of {dates[0]}" + f" to {dates[-1]}" * (dates[0] != dates[-1])
    missing = [name for name in METHODS if not is_there(results, name)]
    rest = f" Not computed yet on any task ({len(missing)}): {named(missing)}." if missing else ""
    lines = [f"Results that are there{when}: {counts}.{rest}", ""]
    for task, found in results.items():
        if equal := as_good_as_best(losses(found)):
            rest = named(equal[1:]) if equal[1:] else "none"
            lines.append(
                f"* **{capital(TITLES[task])}**: the lowest loss is that of `{equal[0]}`. "
                f"Equal to it within the interval ({len(equal) - 1}): {rest}."
            )
    failed = [
        f"`{name}` ({TITLES[task]}: {why})"
        for task, found in results.items()
        for name, result in found.items()
        if (why := failure(result))
    ]
    lines.append(f"* **Failures**: {', '.join(failed) if failed else 'none'}.")
    lines += [gains(task, found) for task, found in results.items() if task not in SMALLER]
    return "\n".join(lines)


def capital(title: str) -> str:
    return title[0].upper() + title[1:]


def is_there(results: Results, name: str) -> bool:
    return any(name in found for found in results.values())


def failure(result: Found) -> str:
    """In a few words, if there is something."""
    if "error" in result:
        return "an error"
    if "runs" not in result:
        return "diverged with every setting"
    lost = sum(run["loss"] is None for run in result["runs"])
    return f"{lost} of {len(result['runs'])} seeds diverged" if lost else ""


def gains(task: str, found: dict[str, Found]) -> str:
    """Where the second number has changed the loss by more than the interval."""
    changes = {name: gain(r) for name, r in found.items() if "rate_only" in r}
    changed = {name: change for name, change in changes.items() if change is not None}
    clear = {name: change.mean for name, change in changed.items() if not change.has_zero}
    better = sorted((name for name in clear if clear[name] > 0), key=lambda n: -clear[n])
    worse = sorted((name for name in clear if clear[name] < 0), key=lambda n: clear[n])
    return (
        f"* **Second number, {TITLES[task]}**: for {len(changed)} of {len(changes)} another value "
        f"than the first was chosen; the test loss is lower beyond the interval for {len(better)} "
        f"({named(better)}), higher for {len(worse)} ({named(worse)})."
    )


def gain(result: Found) -> Interval | None:
    """How much lower the test loss is than with the rate alone; `None` for the same setting."""
    chosen, first = result["chosen"], result["rate_only"]
    if (chosen["lr"], chosen["second"]) == (first["lr"], first["second"]):
        return None
    return difference(losses_of(first["runs"]), losses_of(result["runs"]))


def named(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or NOTHING


def table(results: Results) -> str:
    """All methods that have a result, by their loss on the letters."""
    equal = {task: set(as_good_as_best(losses(found))) for task, found in results.items()}
    lines = ["| | " + " | ".join(TITLES[task] for task in results) + " | slots |"]
    lines.append("|---" * (len(results) + 2) + "|")
    for name in ordered(results):
        cells = [cell(found.get(name), name in equal[task]) for task, found in results.items()]
        slots = [found[name].get("slots") for found in results.values() if name in found]
        kept = next((f"{x:.1f}" for x in reversed(slots) if x is not None), NOTHING)
        lines.append(f"| {named([name])} | " + " | ".join(cells) + f" | {kept} |")
    return "\n".join(lines)


def cell(result: Found | None, equal: bool) -> str:
    if result is None:
        return NOTHING
    if "runs" not in result:
        return failure(result)
    return "= " * equal + str(interval(losses_of(result["runs"])))


def ordered(results: Results) -> list[str]:
    """The lowest loss on the letters first; then those that have none there."""
    means = {name: interval(each).mean for name, each in losses(results.get("letters", {})).items()}
    names = [name for name in METHODS if is_there(results, name)]
    return sorted(names, key=lambda name: means.get(name, math.inf))


def settings(results: Results) -> str:
    """What was tried and chosen."""
    lines = [
        "| | second number | values | "
        + " | ".join(f"{TITLES[task]}: lr, value" for task in results)
        + " | gain, digits | gain, letters |",
        "|---" * (len(results) + 5) + "|",
    ]
    for name in filter(partial(is_there, results), METHODS):
        method = METHODS[name]
        chosen = [setting(name, found.get(name, {})) for found in results.values()]
        changes = [results.get(task, {}).get(name, {}) for task in ("digits", "letters")]
        gained = [str(gain(r) or "0") if "rate_only" in r else NOTHING for r in changes]
        values = ", ".join(map(str, method.values))
        lines.append(
            f"| {named([name])} | {method.second} | {values} | "
            + " | ".join(chosen + gained)
            + " |"
        )
    return "\n".join(lines)


def setting(name: str, result: Found) -> str:
    """With a star where a better rate may lie outside of what was tried."""
    if "chosen" not in result:
        return NOTHING
    lr, second = result["chosen"]["lr"], value(result["chosen"]["second"])
    tried = [relative(name, row) for row in result["search"]]
    edge = relative(name, result["chosen"]) in (min(tried), max(tried))
    return f"{lr:.2g}{'*' * edge}, {second}"


def relative(name: str, row: Found) -> float:
    """The rate, as it would be with the first value of the second number."""
    method = METHODS[name]
    return float(f"{method.moved(row['lr'], value(row['second']), method.values[0]):.3g}")


def value(x: Any) -> Any:
    return tuple(x) if isinstance(x, list) else x


def draw_losses(results: Results) -> Figure:
    """How far every method is from the best on every task, in the order of the table."""
    names = ordered(results)
    figure = Figure(figsize=(9.5, 2 + 0.185 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for ax, (task, found) in zip(axes, results.items(), strict=True):
        draw_task(ax, losses(found), names)
        ax.set_title(TITLES[task], fontsize=10)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    axes[0].plot([], [], "o", color=ORANGE, label="equal to the best")
    axes[0].plot([], [], "o", color=BLUE, label="others")
    axes[0].plot([], [], ">", color=GREY, label="beyond the axis")
    figure.legend(loc="outside upper center", ncols=3)
    figure.supxlabel("test loss above the lowest: mean difference of three seeds, 95 % interval")
    return figure


def draw_task(ax: Axes, each: dict[str, list[float]], names: Sequence[str]) -> None:
    """Up to three times the distance that the median has from the best."""
    ax.grid(alpha=0.3)
    ax.axvline(0, color=GREY, linestyle=":", zorder=0)
    equal = as_good_as_best(each)
    if not equal:
        return
    apart = {name: difference(each[name], each[equal[0]]) for name in each}
    end = 3 * sorted(x.mean for x in apart.values())[len(apart) // 2] or 1.0
    for name, (center, half) in apart.items():
        row, color = names.index(name), ORANGE if name in equal else BLUE
        if center > end:
            ax.plot(end, row, ">", color=color, markersize=4)
            continue
        ax.errorbar(center, row, xerr=half, fmt="o", color=color, markersize=4, linewidth=1)
    ax.set_xlim(-0.3 * end, 1.04 * end)


def draw_rates(results: Results) -> Figure:
    """How much the learning rate matters to the best known: the validation loss over it."""
    names = [name for name in KNOWN if is_there(results, name)]
    columns, rows = 4, max(1, math.ceil(len(names) / 4))
    figure = Figure(figsize=(9.5, 1 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax in panels.flat[len(names) :]:
        ax.set_visible(False)
    small = [task for task in results if task not in SMALLER]
    for task, color, marker in zip(small, (BLUE, ORANGE), ("o", "s"), strict=False):
        for ax, name in zip(panels.flat, names, strict=False):
            draw_search(ax, results[task].get(name, {}).get("search", []), color, marker)
            ax.set_title(name, fontsize=10)
        panels.flat[0].plot([], [], marker=marker, color=color, label=TITLES[task])
    figure.legend(loc="outside upper center", ncols=2)
    figure.supxlabel("learning rate; other values of the second number are single marks")
    figure.supylabel("validation loss, relative to the lowest")
    return figure


def draw_search(ax: Axes, rows: Sequence[Found], color: str, marker: str) -> None:
    tried = [(row["lr"], math.inf if row["loss"] is None else row["loss"]) for row in rows]
    best = min((loss for _, loss in tried), default=1.0)
    off = [(lr, min(loss / best, 10.0)) for lr, loss in tried]
    if off:
        ax.plot(*zip(*off[: SEARCH // 2], strict=True), f"{marker}-", color=color, markersize=4)
        ax.plot(*zip(*off[SEARCH // 2 :], strict=True), "x", color=color, markersize=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.93, 11)
    ax.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10 or more"])
    ax.minorticks_off()
    ax.grid(alpha=0.3)


def excluded() -> str:
    """What is not compared, for the text of the page."""
    return "; ".join(f"{named([name])} ({why})" for name, why in EXCEPTIONS.items())


def main() -> None:
    results = judged(all_read())
    for name, draw in (("races", draw_losses), ("rates", draw_rates)):
        draw(begun(results)).savefig(DOCS / f"choosing_{name}.png", dpi=150)
    page = DOCS / "choosing.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{section(results)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
