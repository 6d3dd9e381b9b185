"""Tunes every optimizer on every task with the same budget, and trains with three seeds.

    python -m benchmarks.choosing --resume   # all that is not there yet, in pieces
    python -m benchmarks.choosing.report     # the table and the figures of what is there

A piece, one optimizer on one task, is written when it is done, so that the comparison can be ended
at any time, and continued.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .methods import METHODS
from .store import RESULTS, Store
from .tasks import TASKS


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)  # the models are small: more threads would wait for one another
    stores = [Store(given.out, TASKS[name](given.steps)) for name in given.tasks]
    for store in stores:
        if given.resume:
            store.load()
        elif store.path.exists():
            parser.error(f"{store.path} is there: continue it with --resume, or remove it")
    for store in stores:
        for name in tqdm(given.methods, desc=store.task.name):
            start = store.start(name)
            if not store.has(name, start):
                store.add(name, start)


if __name__ == "__main__":
    main()
