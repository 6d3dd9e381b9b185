"""Packages that funcopt does not depend on, and what figures share that are made with one."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, RED = "#0072b2", "0.6", "#d55e00"
"""The colors of figures: distinct for color-blind readers, and in print."""


def needed(who: str, package: str, extra: str) -> Any:
    """The module of a package that is optional.

    Raises:
        ImportError: If it is not installed, saying which extra has it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise ImportError(
            f"`{who}` needs {name}, which is not installed: `pip install 'funcopt[{extra}]'`.",
            name=name,
        ) from error


def new_figure(who: str, width: float, height: float) -> "Figure":
    """An empty figure, in inches; it is on no screen, and in no list of figures.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    made: Figure = needed(who, "matplotlib.figure", "plots").Figure(
        figsize=(width, height), layout="constrained"
    )
    return made


def saved(figure: "Figure", path: str | Path | None) -> "Figure":
    """The figure, written to `path` if there is one."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure
