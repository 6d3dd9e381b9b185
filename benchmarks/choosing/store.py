"""What is found out already: a file of results for each task, written after each piece."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from .methods import METHODS, Method
from .pieces import REFINE, SEARCH, SEEDS, Found, Setting, piece
from .tasks import TASKS, Task

RESULTS = Path(__file__).parent / "results"
SMALLER = {"letters_1m": "letters"}
"""Where the search of a task begins."""


class Store:
    """The results of one task."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder, self.task, self.path = folder, task, folder / f"{task.name}.json"
        self.head = {
            "steps": task.steps,
            "seeds": list(SEEDS),
            "search": list(task.search),
            "settings": REFINE if task.name in SMALLER else SEARCH,
            "python": platform.python_version(),  # whose library is read
        }
        self.results: dict[str, Found] = {}

    def load(self) -> None:
        """Takes what is in the file, if there is one.

        Raises:
            ValueError: If the file is broken, or of another comparison.
        """
        if not self.path.exists():
            return
        found = read(self.path)
        old = {key: found.get(key) for key in self.head}
        if old != self.head:
            raise ValueError(
                f"{self.path} is of another comparison: it has {old}, this one {self.head}. Pass "
                "the same, or another folder as --out."
            )
        self.results = found["results"]

    def has(self, name: str, start: Setting | None) -> bool:
        """Whether the piece is there, of the method as it is, and from the same start.

        One that ended with an error is tried again.
        """
        result = self.results.get(name)
        if result is None or "error" in result:
            return False
        same = result["method"] == METHODS[name].description()
        return same and result["start"] == plain(start)

    def add(self, name: str, start: Setting | None) -> None:
        """Computes a piece, and writes the file anew, at once or not at all."""
        self.results[name] = piece(self.task, METHODS[name], start)
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(written({**self.head, "torch": torch.__version__}, self.results))
        os.replace(beside, self.path)

    def start(self, name: str) -> Setting | None:
        """What the search on a smaller task has found; `None` where it begins from nothing."""
        smaller = SMALLER.get(self.task.name)
        if smaller is None:
            return None
        path = self.folder / f"{smaller}.json"
        results = read(path)["results"] if path.exists() else {}
        return chosen(METHODS[name], results.get(name, {}))


def chosen(method: Method, result: Found) -> Setting:
    """The best setting of a result; the guess, where it has none."""
    if "chosen" not in result:
        return Setting(method.lr, method.values[0])
    lr, second = result["chosen"]["lr"], result["chosen"]["second"]
    return Setting(lr, tuple(second) if isinstance(second, list) else second)


def plain(start: Setting | None) -> Any:
    """As it is after reading."""
    return None if start is None else json.loads(json.dumps(start._asdict()))


def written(head: Found, results: dict[str, Found]) -> str:
    """JSON with a line for each method."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = [
        f"  {json.dumps(name)}: {json.dumps(result, allow_nan=False)}"
        for name, result in results.items()
    ]
    return "\n".join(["{", *lines, ' "results": {', ",\n".join(rows), " }", "}"]) + "\n"


def read(path: Path) -> Found:
    """A file of results.

    Raises:
        ValueError: If it is none.
    """
    try:
        found: Found = json.loads(path.read_text())
        if not isinstance(found["results"], dict):
            raise TypeError
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no file of results: {error or 'no results'}. Restore it "
            "(`git checkout`), or remove it to begin again."
        ) from None
    return found


def all_read(folder: Path = RESULTS) -> dict[str, dict[str, Found]]:
    """By task, what is there of every method."""
    files = {name: folder / f"{name}.json" for name in TASKS}
    return {name: read(p)["results"] if p.exists() else {} for name, p in files.items()}
