"""What was measured, as one page with a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import isnan
from pathlib import Path

from . import figure, machine, sections
from .compiling import First
from .duel import Result
from .memory import Extra
from .scaling import Point


@dataclass
class Page:
    """Parts that were not asked for are empty, and left out."""

    device: str
    quick: bool
    others: float
    """The share of the cores that other processes took."""
    bandwidth: float
    results: Sequence[Result] = ()
    memory: Sequence[Extra] = ()
    first: Sequence[First] = ()
    by_number: Sequence[Point] = ()
    by_size: Sequence[Point] = ()
    by_host: Sequence[Point] = ()

    def write(self, folder: Path) -> str:
        """Writes the page and the figure; returns the text."""
        name = "performance_table" + f"_{self.device}" * (self.device != "cpu")
        text = self.markdown(f"{name}.svg")
        folder.mkdir(parents=True, exist_ok=True)
        figure.draw(self.results, self.by_number, self.by_size, folder / f"{name}.svg")
        (folder / f"{name}.md").write_text(text)
        return f"{text}\nThis is in {folder / name}.md now."

    def markdown(self, drawing: str) -> str:
        """The page."""
        picture = f"![{ALT}]({drawing})"
        return "\n\n".join([TITLE, self._head(), picture, *self._parts()]) + "\n"

    def _head(self) -> str:
        facts = [
            f"{date.today():%Y-%m-%d}",
            machine.description(self.device),
            "float32",
            f"memory read and written at {self.bandwidth / 1e9:.0f} GB/s",
        ]
        if not isnan(self.others):
            facts.append(f"other processes took {self.others:.0%} of the cores")
        warning = QUICK if self.quick else BUSY if self.others > QUIET else ""
        return f"{warning}{'; '.join(facts)}. [How to read it](benchmarks.md)."

    def _parts(self) -> list[str]:
        found = []
        if self.results:
            found += ["## Targets", sections.of_targets(self.results)]
            if not self.quick:
                found += ["## Bytes", sections.of_floor(self.results, self.bandwidth)]
        if self.memory:
            found += ["## Extra memory", sections.of_memory(self.memory)]
        if self.first:
            found += ["## The first step", sections.of_compiling(self.first)]
        if self.by_number:
            found += ["## Number of tensors", sections.of_scaling(self.by_number, "tensors of 64")]
        if self.by_size:
            found += ["## Size", sections.of_scaling(self.by_size, "elements")]
        if self.by_host:
            found += ["## The host", sections.of_scaling(self.by_host, "tensors of 1")]
        if self.results:
            found += ["## All rivals", sections.of_all(self.results)]
        return found


TITLE = "# Benchmarks: a step"
ALT = "Ratios against their targets; time of a step against the number and the size of tensors"
QUIET = 0.05
BUSY = "**The machine was busy: no result.** "
QUICK = "**A quick look, at smaller tensors than it says: no result.** "
