"""The folder of compiled code: where it is, how large, and how to empty it."""

from pathlib import Path
from typing import NamedTuple

from .. import engine
from .._core.explanation import in_bytes

KINDS = ("*.so", "*.txt", "*.lock", "tmp*")
"""The files of the cache, and what a process that was killed may have left of them."""


class Kept(NamedTuple):
    """What is in the cache."""

    folder: Path
    files: list[Path]
    size: int  # in bytes

    def __str__(self) -> str:
        libraries = sum(path.suffix == ".so" for path in self.files)
        count = f"{libraries} librar{'y' if libraries == 1 else 'ies'}"
        return f"{self.folder}: {count}, {in_bytes(self.size)}"


def kept() -> Kept:
    """The files that are there now."""
    folder = engine.cache_folder()
    files = sorted({path for kind in KINDS for path in folder.glob(kind) if path.is_file()})
    return Kept(folder, files, sum(path.stat().st_size for path in files))


def cache(clear: bool = False) -> str:
    """What is in the cache; with `clear`, removes it.

    Processes that have loaded a library keep it; others compile theirs again.
    """
    found = kept()
    if not clear:
        return str(found)
    for path in found.files:
        path.unlink(missing_ok=True)
    return f"removed from {found}"
