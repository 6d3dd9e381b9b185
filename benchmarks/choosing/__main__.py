"""Tunes every optimizer on every task with the same budget, and trains with three seeds.

    python -m benchmarks.choosing --resume   # all that is not there yet, in pieces
    python -m benchmarks.choosing.report     # the table and the figures of what is there

A piece, one optimizer on one task, is written when it is done, so that the comparison can be ended
at any time, and continued. The small tasks come first for the best known optimizers, then the large
one for eight of them, and then the others.
"""

import argparse
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .methods import KNOWN, METHODS, WRAPPED
from .store import RESULTS, SMALLER, Store
from .tasks import TASKS

FIRST = 8  # optimizers, which get the large task before the others get the small ones


def in_order(tasks: Collection[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The pieces, so that a part of them is of use."""
    known = [*KNOWN, *WRAPPED]
    others = [name for name in METHODS if name not in known]
    small = [task for task in TASKS if task not in SMALLER]
    pieces = [(task, name) for name in known for task in small]
    pieces += [(task, name) for task in SMALLER for name in known[:FIRST]]
    pieces += [(task, name) for name in others for task in small]
    pieces += [(task, name) for task in SMALLER for name in [*known[FIRST:], *others]]
    return ((task, name) for task, name in pieces if task in tasks and name in names)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)  # the models are small: more threads would wait for one another
    stores = {name: Store(given.out, TASKS[name](given.steps)) for name in given.tasks}
    for store in stores.values():
        if given.resume:
            store.load()
        elif store.path.exists():
            parser.error(f"{store.path} is there: continue it with --resume, or remove it")
    for task, name in tqdm(list(in_order(given.tasks, given.methods))):
        store = stores[task]
        start = store.start(name)
        if not store.has(name, start):
            store.add(name, start)


if __name__ == "__main__":
    main()
