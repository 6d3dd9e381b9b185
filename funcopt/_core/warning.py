"""Warnings that point at the line of the user's program."""

import sys
import warnings

OURS = ("funcopt", "torch", "contextlib", "functools")
"""Packages whose calls lie between."""


def warn(message: str) -> None:
    """Warns as if from the first caller that is neither this library nor torch."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in OURS:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
