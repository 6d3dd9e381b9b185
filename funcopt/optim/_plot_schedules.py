"""The schedules of an optimizer, as a figure."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core import checks
from .._core.kinds import described
from .._core.schedule_figure import draw_schedules
from .._core.tensor_rule import GradientTransformation
from .._numerics.scalars import has_schedule
from ..combinators import hyperparams
from ..errors import HyperparameterError
from ._metrics import group_names
from ._optimizer import Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_schedules(
    what: Optimizer | GradientTransformation,
    steps: int | None = None,
    path: str | Path | None = None,
) -> "Figure":
    """Draws all hyperparameters that follow a schedule, over the number of updates made.

        plot_schedules(opt, 10_000)

    A panel for each hyperparameter; where parameter groups differ in one, a line for each.

    Args:
        what: An `Optimizer`, or a transformation.
        steps: How many steps to draw; by default, somewhat more than the longest schedule.
        path: Where to save the figure, if at all.

    Returns:
        The figure.

    Raises:
        HyperparameterError: If no hyperparameter follows a schedule.
        ImportError: If matplotlib is not installed.
    """
    if steps is not None:
        checks.whole_number("plot_schedules", "steps", steps, least=1)
    if isinstance(what, GradientTransformation):
        each = {"": {k: v for k, v in hyperparams(what).items() if has_schedule(v)}}
    elif isinstance(what, Optimizer):
        each = dict(zip(group_names(what.param_groups), what._groups.schedules, strict=True))
    else:
        raise HyperparameterError(
            f"`plot_schedules`: expected an `Optimizer` or a transformation, got {_described(what)}"
        )
    panels: dict[str, dict[str, Any]] = {}
    for group, schedules in each.items():
        for key, value in schedules.items():
            lines = panels.setdefault(key, {})
            if value not in lines.values():
                lines[group or repr(value)] = value
    if not panels:
        raise HyperparameterError(
            "`plot_schedules`: no hyperparameter follows a schedule. A scheduler of torch is not "
            "part of the optimizer, so its values cannot be drawn."
        )
    return draw_schedules("plot_schedules", panels, steps, path)


def _described(what: Any) -> str:
    if isinstance(what, torch.optim.Optimizer):
        return f"the optimizer `{type(what).__name__}`, which has no schedules of its own."
    return described(what)
