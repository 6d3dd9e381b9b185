"""How many threads a pass is worth: found by a measurement of this computer, made once and kept."""

import functools
import logging
import os
import statistics
import time
from collections.abc import Callable

import torch

from . import _kept_files, _libraries

log = logging.getLogger("funcopt")

SIZES: tuple[int, ...] = tuple(2**k for k in range(12, 19))
"""Entries for which it is measured: below one thread is faster anywhere, above several are."""

ROUNDS = 9

Pass = Callable[[int, int], None]
"""Makes a pass over so many entries, on so many threads."""


def threads_for(entries: int, work: Callable[[], Pass]) -> int:
    """How many threads of those that torch has to use for a pass over so many entries.

    `work` makes the pass that is measured, if it has to be.
    """
    if entries <= SIZES[0]:
        return 1
    most = torch.get_num_threads()
    if entries > SIZES[-1] or most == 1:
        return most
    return 1 if entries <= _serial_entries(most, work) else most


_found: dict[int, int] = {}


def _serial_entries(threads: int, work: Callable[[], Pass]) -> int:
    """Up to how many entries one thread is as fast as so many."""
    if threads not in _found:
        key = _libraries.key_of(["entries for one thread", threads, os.cpu_count()])
        with _kept_files.one_process(key):  # no other process measures meanwhile
            found = _kept(key)
            if found is None:
                found = measured(threads, functools.partial(seconds, work()))
                _kept_files.keep(key, str(found).encode(), SUFFIX)
                log.info("up to %s entries are worked on by one thread, not %d", found, threads)
        _found[threads] = found
    return _found[threads]


def measured(threads: int, seconds: Callable[[int, int], float]) -> int:
    """The largest of the `SIZES` at which one thread is as fast, by the seconds of both."""
    for entries in reversed(SIZES):
        if seconds(entries, 1) <= seconds(entries, threads):
            return entries
    return 0


def seconds(work: Pass, entries: int, threads: int) -> float:
    """The time of a pass between other work, as it is in training: threads and caches are busy."""
    memory, times = torch.zeros(2**20, device="cpu"), []
    for _ in range(ROUNDS):
        memory.add_(1.0)
        begin = time.perf_counter()
        work(entries, threads)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


SUFFIX = ".txt"


def _kept(key: str) -> int | None:
    """What was measured before, on this computer."""
    path = _kept_files.find(key, SUFFIX)
    return None if path is None else int(path.read_bytes().split(b"funcopt", 1)[0])
