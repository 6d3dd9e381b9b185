"""The command line: what there is, what it does, what runs here, and how fast."""

from ._main import main as main

__all__ = ["main"]
