"""What three seeds can tell: means, their intervals, and who is as good as the best."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean, and how far it may be off on either side."""

    mean: float
    half: float

    @property
    def has_zero(self) -> bool:
        return abs(self.mean) <= self.half

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}" if math.isfinite(self.mean) else "diverged"


def interval(values: Sequence[float]) -> Interval:
    """The mean with its interval by Student's t; infinite if one of the values is."""
    if not all(map(math.isfinite, values)):
        return Interval(math.inf, math.inf)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean(values), quantile * stdev(values) / math.sqrt(len(values)))


def difference(values: Sequence[float], others: Sequence[float]) -> Interval:
    """That of the differences in pairs, which have the seed and so the data in common."""
    return interval([a - b for a, b in zip(values, others, strict=True)])


def as_good_as_best(losses: Mapping[str, Sequence[float]]) -> list[str]:
    """The lowest mean, and all whose difference to it may be zero; in the order of their means."""
    order = sorted(losses, key=lambda name: interval(losses[name]).mean)
    finite = [name for name in order if math.isfinite(interval(losses[name]).mean)]
    return [name for name in finite if difference(losses[name], losses[finite[0]]).has_zero]
