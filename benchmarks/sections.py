"""The parts of the page, in Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median

from .chains import CHAINS
from .compiling import First
from .duel import Result
from .memory import Extra
from .problems import problem
from .scaling import Point
from .targets import LARGE, rows

TIMES = ("ours, ms", "theirs, ms", "ours / theirs", "quartiles")
HELD = {True: "yes", False: "**no**"}


def of_targets(results: Sequence[Result]) -> str:
    """Every target: what was found, and whether it is held."""
    found = [row for row in rows(results) if row.result is not None]
    lines = [
        [
            *(row.problem, row.mode, row.chain, _ours(row.result), f"`{row.result.theirs}`"),
            *_times(row.result),
            f"{row.at_most:g}",
            row.result.note if row.held is None else HELD[row.held],
        ]
        for row in found
    ]
    head = ["parameters", "steps", "chain", "ours", "against", *TIMES, "at most", "held"]
    measured = [row.held for row in found if row.held is not None]
    count = f"{sum(measured)} of {len(measured)} are held."
    if len(found) > len(measured):
        count += f" {len(found) - len(measured)} could not be measured."
    return f"{_table(head, lines)}\n\n{count}"


def of_all(results: Sequence[Result]) -> str:
    """Everybody who was met."""
    lines = [
        [r.problem, r.mode, r.chain, _ours(r), f"`{r.theirs}`"]
        + ([*_times(r), f"{r.apart:.0e}"] if r.pairs else ["", "", "", "", r.note])
        for r in results
    ]
    head = ["parameters", "steps", "chain", "ours", "against", *TIMES, "results apart"]
    return _table(head, lines)


def _ours(r: Result) -> str:
    return r.engine if r.form == "optimizer" else r.form


def of_floor(results: Sequence[Result], bandwidth: float) -> str:
    """How near our steps are to reading and writing every byte once."""
    found: dict[tuple[str, str], list[float]] = {}
    for r in results:
        if r.pairs and r.problem in LARGE and r.form == "optimizer" and CHAINS[r.chain].has_floor:
            found.setdefault((r.problem, r.chain), []).append(r.medians[0])
    lines = []
    for (name, chain), medians in found.items():
        seconds = median(medians)
        least = CHAINS[chain].floor() * problem(name).elements
        lines.append(
            [
                name,
                chain,
                str(CHAINS[chain].floor()),
                _ms(least / bandwidth),
                _ms(seconds),
                f"{seconds * bandwidth / least:.2f}",
            ]
        )
    head = ["parameters", "chain", "bytes per element", "floor, ms", "ours, ms", "ours / floor"]
    return _table(head, lines)


def of_memory(found: Iterable[Extra]) -> str:
    """What a step needs for a moment."""
    lines = [
        [e.problem, e.chain, f"`{e.name}`"]
        + ([e.note, ""] if e.bytes is None else [f"{e.bytes:,}", f"{e.bytes / e.largest:.2f}"])
        for e in found
    ]
    return _table(["parameters", "chain", "who", "bytes", "of the largest tensor"], lines)


def of_compiling(found: Iterable[First]) -> str:
    """What the first step takes longer than the next."""
    lines = [
        [f.what, f.engine, f"{f.seconds:.2f}"]
        + (["", ""] if f.at_most is None else [f"{f.at_most:g}", HELD[f.seconds <= f.at_most]])
        for f in found
    ]
    return _table(["AdamW, first step of a process", "engine", "s", "at most", "held"], lines)


def of_scaling(points: Sequence[Point], axis: str) -> str:
    """Microseconds for a step, one column for each contender."""
    names = list(dict.fromkeys(p.name for p in points))
    found = {(p.x, p.name): p.seconds for p in points}
    lines = [
        [f"{x:,}", *(f"{1e6 * found[x, name]:,.0f}" for name in names)]
        for x in dict.fromkeys(p.x for p in points)
    ]
    return _table([axis, *(f"`{name}`, us" for name in names)], lines)


def _times(r: Result) -> list[str]:
    if not r.pairs:
        return len(TIMES) * [""]
    (low, high), (ours, theirs) = r.spread, r.medians
    return [_ms(ours), _ms(theirs), f"{r.ratio:.2f}", f"{low:.2f} to {high:.2f}"]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])
