"""The numbers of the home page: read from the tables that measurements have written."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]


def rows(page: str) -> list[list[str]]:
    """The cells of all rows of tables on a page."""
    text = (DOCS / page).read_text()
    found = re.findall(r"(?m)^\|(.+)\|$", text)
    return [[cell.strip() for cell in row.split("|")] for row in found]


def times_as_fast_as_three_calls() -> float:
    """Clip, AdamW and averages as one pass, against three calls of torch, on a small GPT."""
    rival = "`clip_grad_norm_, AdamW(fused=True), AveragedModel`"
    (row,) = [
        row
        for row in rows("performance_table.md")
        if row[:5] == ["GPT 22M", "in training", "clip + adamw + ema", "fused", rival]
        and len(row) == 11
    ]
    return 1 / float(row[7])


def largest_difference_from_optax() -> float:
    """Of any entry, over 200 steps in float64, in all chains of the table."""
    text = (DOCS / "parity.md").read_text().split("## ")[0]
    found = re.findall(r"(?m)\| (\de[+-]\d\d) \|$", text)
    return max(float(number) for number in found)


def times_as_fast_as_metaadam() -> float:
    """An outer step of MAML, 25 tasks and 5 inner steps of Adam, not compiled, against TorchOpt."""
    (row,) = [row for row in rows("from_torchopt.md") if row[:2] == ["25", "5"]]
    return 1 / float(row[4])


def times_as_fast_as_separate_runs() -> float:
    """64 trainings of the small network at once, compiled, against one by one."""
    text = (DOCS / "sweeps_table.md").read_text()
    return float(re.search(r"\*\*([\d.]+) times faster\*\*", text)[1])


def numbers() -> dict[str, str]:
    return {
        "three_calls": f"{times_as_fast_as_three_calls():.1f}",
        "optax": f"{largest_difference_from_optax():.0e}",
        "metaadam": f"{times_as_fast_as_metaadam():.0f}",
        "sweep": f"{times_as_fast_as_separate_runs():.0f}",
    }
