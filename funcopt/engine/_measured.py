"""Which of two ways to make a pass is faster: found by a measurement of this computer, and kept."""

import functools
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from . import _kept_files, _libraries

log = logging.getLogger("funcopt")

ROUNDS = 9

Pass = Callable[[int, int], None]
"""Makes a pass of some size in one of the ways."""

_found: dict[tuple[str, int], int] = {}


def threshold(
    what: str, sizes: Sequence[int], ways: tuple[int, int], work: Callable[[], Pass]
) -> int:
    """The largest of the sizes at which the first way is as fast as the second; 0 if it never is.

    It is measured once for each number of threads that torch has. `work` makes the pass that is
    measured, if it has to be.
    """
    threads = torch.get_num_threads()
    if (what, threads) not in _found:
        key = _libraries.key_of([what, threads, os.cpu_count()])
        found = _kept(key)
        if found is None:
            with _kept_files.one_process(key):  # no other process measures meanwhile
                found = _kept(key)
                if found is None:
                    found = measured(sizes, ways, functools.partial(seconds, work()))
                    _kept_files.keep(key, str(found).encode(), SUFFIX)
                    log.info("%s, on %d threads: %s", what, threads, found)
        _found[what, threads] = found
    return _found[what, threads]


def measured(
    sizes: Sequence[int], ways: tuple[int, int], seconds: Callable[[int, int], float]
) -> int:
    """The largest of the sizes at which the first way is as fast, by the seconds of both."""
    one, other = ways
    for size in reversed(sizes):
        if seconds(size, one) <= seconds(size, other):
            return size
    return 0


def seconds(work: Pass, size: int, way: int) -> float:
    """The time of a pass between other work, as it is in training: threads and caches are busy."""
    memory, times = torch.zeros(2**20, device="cpu"), []
    for _ in range(ROUNDS):
        memory.add_(1.0)
        begin = time.perf_counter()
        work(size, way)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


SUFFIX = ".txt"


def _kept(key: str) -> int | None:
    """What was measured before, on this computer."""
    path = _kept_files.find(key, SUFFIX)
    return None if path is None else int(path.read_bytes().split(b"funcopt", 1)[0])
