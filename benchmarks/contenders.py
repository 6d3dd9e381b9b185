"""Who steps the parameters: the interface that funcopt and all its rivals have here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .problems import Problem


class Run(ABC):
    """Parameters with an optimizer, in memory of their own.

    A training step is ``give(grads)``, then ``step()``. Only the second is timed. The first does
    what a backward pass would: it writes the gradients into other tensors than those of the step
    before, so nobody profits from meeting the same tensors again.
    """

    def __init__(self, problem: Problem) -> None:
        self.params = problem.params()
        self._buffers = [[torch.empty_like(p) for p in self.params] for _ in range(2)]
        self._turn = 0

    def give(self, grads: Sequence[Tensor]) -> None:
        """Hands over the gradients of the next step."""
        self._turn = 1 - self._turn
        self.grads = self._buffers[self._turn]
        torch._foreach_copy_(self.grads, list(grads))

    @abstractmethod
    def step(self) -> None:
        """Takes it."""

    def values(self) -> list[Tensor]:
        """What has been computed so far: the parameters, and averages of them."""
        return self.params


class Stepping(Run):
    """Any `torch.optim.Optimizer`, with the gradients where they are in training."""

    def __init__(
        self, problem: Problem, make: Callable[[list[Tensor]], torch.optim.Optimizer]
    ) -> None:
        super().__init__(problem)
        self.params = [nn.Parameter(p) for p in self.params]
        self.opt = make(self.params)

    def give(self, grads: Sequence[Tensor]) -> None:
        super().give(grads)
        for p, g in zip(self.params, self.grads, strict=True):
            p.grad = g

    def step(self) -> None:
        self.opt.step()


class Contender(NamedTuple):
    """A way to step by a chain."""

    name: str
    make: Callable[[Problem], Run]
    absent: str = ""
    """Why it cannot run here, if it cannot."""
    most_tensors: int | None = None
    """It is not asked to step more, since it would take minutes to get ready."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    meets: str = "optimizer"
    """Which of our forms: "optimizer", "donated", or "pure", of which nothing is lost: both by two
    functions and in one pass."""

    differs: bool = False
    """It computes something else, on purpose."""

    def excuse(self, problem: Problem) -> str:
        """Why it cannot take part here, if it cannot."""
        if self.absent:
            return self.absent
        if problem.device not in self.devices:
            return f"not run on {problem.device}"
        if self.most_tensors is not None and len(problem.shapes) > self.most_tensors:
            return f"not run with more than {self.most_tensors} tensors: it compiles for minutes"
        return ""


def absent(name: str, why: str) -> Contender:
    """One that cannot run here."""

    def make(problem: Problem) -> Run:
        raise RuntimeError(f"{name}: {why}")

    return Contender(name, make, why)
