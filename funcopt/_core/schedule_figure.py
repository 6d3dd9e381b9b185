"""The figure of schedules: their values over the number of updates made."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._numerics.scalars import at as value_at
from .._numerics.scalars import number
from .extras import BLUE, new_figure, saved
from .record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_STEPS = 100
"""How many steps are drawn of a schedule that does not say how long it is."""


def length_of(schedule: Any) -> int:
    """How many steps a schedule takes, as far as it says; 0 if it does not."""
    if isinstance(schedule, (tuple, list)):
        return max(map(length_of, schedule), default=0)
    if not isinstance(schedule, Record):
        return 0
    own, parts = 0, [0]
    for field in dataclasses.fields(schedule):  # type: ignore[arg-type]  # every record is one
        value = getattr(schedule, field.name)
        if isinstance(value, (tuple, list)):
            numbers = [x for x in value if type(x) is int]
            own = max([own, *numbers])
            parts += map(length_of, value)
        elif type(value) is int and not field.name.endswith(("value", "power")):
            own += value
        else:
            parts.append(length_of(value))
    return getattr(schedule, "drawn_lengths", 1) * (own + max(parts))


def draw_schedules(
    who: str,
    panels: Mapping[str, Mapping[str, Any]],
    steps: int | None,
    path: str | Path | None,
) -> "Figure":
    """A panel for each quantity, in which each of its schedules has a line, under its label.

    A quantity may be a tuple with a schedule in it, too.
    """
    if steps is None:
        lengths = [length_of(x) for own in panels.values() for x in own.values()]
        steps = round(1.1 * max(lengths)) or DEFAULT_STEPS
    figure = new_figure(who, 7, 0.7 + 2.8 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, own) in zip(axes, panels.items(), strict=True):
        for label, schedule in own.items():
            values = [_numbers(value_at(schedule, step)) for step in range(steps + 1)]
            color = BLUE if len(own) == 1 else None
            ax.plot(values, color=color, linewidth=2, label=label)
        ax.set(ylabel=name, xlim=(0, steps))
        ax.grid(alpha=0.3)
        if len(own) > 1:
            ax.legend()
        elif len(panels) == 1:
            ax.set_title(next(iter(own)), size=9)
    axes[-1].set_xlabel("updates made")
    return saved(figure, path)


def _numbers(value: Any) -> Any:
    return [float(number(x)) for x in value] if isinstance(value, tuple) else float(number(value))
