"""How many threads a pass is worth."""

from collections.abc import Callable

import torch

from ._measured import Pass, threshold

SIZES: tuple[int, ...] = tuple(2**k for k in range(12, 19))
"""Entries for which it is measured: below one thread is faster anywhere, above several are."""


def threads_for(entries: int, work: Callable[[], Pass]) -> int:
    """How many threads of those that torch has to use for a pass over so many entries.

    `work` makes the pass that is measured, if it has to be: over entries, by a number of threads.
    """
    if entries <= SIZES[0]:
        return 1
    most = torch.get_num_threads()
    if entries > SIZES[-1] or most == 1:
        return most
    return 1 if entries <= threshold("entries for one thread", SIZES, (1, most), work) else most
