"""The base class of schedules: records that can be plotted."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .._core.record import Record
from .._core.schedule_figure import draw_schedules

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ScheduleRecord(Record):
    """A schedule that is a record of its values and lengths."""

    drawn_lengths: ClassVar[int] = 1
    """The plotted range, in units of its length: several where it has no end."""

    def plot(self, steps: int | None = None, path: str | Path | None = None) -> "Figure":
        """Plots the value over the number of updates made.

            warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000).plot()

        Args:
            steps: The number of steps to plot; by default, somewhat more than the schedule is long.
            path: The file to save the figure in, if any.

        Returns:
            The figure, which notebooks show.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        return draw_schedules(
            f"{type(self).__name__}.plot", {"value": {repr(self): self}}, steps, path
        )
