"""Whether the caches hold what a pass works on, from one step to the next."""

from collections.abc import Callable

from ._measured import Pass, threshold

SIZES: tuple[int, ...] = tuple(2**k for k in range(21, 27))
"""Bytes for which it is measured: less is held anywhere, more is not."""

FROM_CACHES, THROUGH_MEMORY = 0, 1
"""The ways to make such a pass."""


def hold(size: int, work: Callable[[], Pass]) -> bool:
    """Whether a pass over so many bytes is faster if it is made for caches.

    `work` makes the pass that is measured, if it has to be: over bytes, in one of the ways.
    """
    if size <= SIZES[0]:
        return True
    if size > SIZES[-1]:
        return False
    ways = FROM_CACHES, THROUGH_MEMORY
    return size <= threshold("bytes that caches hold", SIZES, ways, work)
