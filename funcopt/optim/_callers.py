"""Who calls, where torch asks for something that only the caller tells."""

import sys
from types import FrameType

DEPTH = 24
"""How many calls may lie between, such as hooks, schedulers and subclasses."""


def called_by(module: str, function: str | None = None) -> bool:
    """Whether a function of a module, or that one of it, is among those that called this one."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == module and function in (None, frame.f_code.co_name):
            return True
        frame = frame.f_back
    return False
