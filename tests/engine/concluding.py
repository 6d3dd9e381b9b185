"""Stages that conclude, and how many kernels do it for them."""

from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.engine import _conclusion


@pytest.fixture
def concluded(monkeypatch):
    """How many kernels have concluded, and why others could not."""
    found, known = [], _conclusion._conclusion

    def watched(*given):
        try:
            made = known(*given)
        except _conclusion.Unsupported as reason:
            found.append(str(reason))
            raise
        found.append(made)
        return made

    monkeypatch.setattr(_conclusion, "_conclusion", watched)
    return found


class Kept(NamedTuple):
    mean: torch.Tensor
    count: torch.Tensor


class theirs(fo.TensorRule):
    """A rule of somebody else: shared scalars in several dtypes, a flag, numbers that change."""

    decay: fo.Scalar = 0.9
    elementwise = True
    memory_per = "tree"

    def init_memory(self, like):
        return Kept(like.clone(), torch.zeros((), dtype=torch.int64))

    def measure_tensor(self, g, slots, p, s):
        return g.abs().sum(), (g > 0).sum()

    def conclude(self, s, memory, total):
        size, positive = total
        mean = s.decay * memory.mean + (1 - s.decay) * size
        more = {"factor": 1 / (1 + mean), "many": positive > 3, "twice": 2 * s.decay}
        return more, Kept(mean.to(memory.mean.dtype), memory.count + 1)

    def update_tensor(self, g, slots, p, s):
        return torch.where(s.many, g * s.factor, -g) * s.twice, slots


class looking(fo.TensorRule):
    """One that looks at a value, which a kernel cannot."""

    elementwise = True

    def measure_tensor(self, g, slots, p, s):
        return g.square().sum()

    def conclude(self, s, memory, total):
        return {"factor": 0.5 if total > 1 else 2.0}, memory

    def update_tensor(self, g, slots, p, s):
        return -s.factor * g, slots
