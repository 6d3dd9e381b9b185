"""Stages that conclude, and how many kernels do it for them."""

from typing import NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt.engine import _conclusion

from .common import Run, gap, parameters, units


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


ENGINES = ("fused", "eager")


def assert_is_a_kernel(case, concluded, *shapes):
    run = Run(case.tx, "fused", parameters(torch.float32, *shapes), case.extra)
    for _ in range(2):
        run.step()
    assert not [why for why in concluded if isinstance(why, str)]


def assert_theirs_is_a_kernel(dtype, concluded, *shapes):
    tx = fo.chain(theirs(fo.linear_schedule(0.9, 0.5, 4)), fo.scale(-0.1))
    runs = [Run(tx, how, parameters(dtype, *shapes)) for how in ENGINES]
    for _ in range(4):
        for run in runs:
            run.step()
    assert runs[0].engine.name == "fused"
    assert len(concluded) == 1, "a scalar that changes makes no new kernel"
    ours, known = (run.tensors() for run in runs)
    assert units(ours, known, dtype) <= 4
    assert ours[-1].dtype is known[-1].dtype is torch.int64
    assert ours[-1].item() == 4


def assert_looking_runs_by_torch(concluded, *shapes):
    runs = [Run(looking(), how, parameters(torch.float64, *shapes)) for how in ENGINES]
    for _ in range(3):
        for run in runs:
            run.step()
    assert runs[0].engine.name == "fused"
    assert gap(*(run.tensors() for run in runs)) <= 1e-14
    assert isinstance(concluded[0], str)
