"""A loop over tensors, as a user would write it who needs one algorithm, and no library."""

from collections.abc import Callable

import torch

from ..chains import LR, MOMENTUM, WEIGHT_DECAY, Chain
from ..contenders import Contender, Run
from ..problems import Problem


class Lion(Run):
    """In place, with one temporary for each tensor."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.means = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self) -> None:
        for p, g, m in zip(self.params, self.grads, self.means, strict=True):
            direction = torch.lerp(m, g, 1 - 0.9).sign_()
            p.mul_(1 - LR * WEIGHT_DECAY).add_(direction, alpha=-LR)
            m.lerp_(g, 1 - 0.99)


class AdamW(Run):
    """In place, with one temporary for each tensor."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.means = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]
        self.count = 0

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        size = LR / (1 - 0.9**self.count)
        root = (1 - 0.999**self.count) ** 0.5
        for p, g, m, v in zip(self.params, self.grads, self.means, self.squares, strict=True):
            p.mul_(1 - LR * WEIGHT_DECAY)
            m.lerp_(g, 1 - 0.9)
            v.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
            p.addcdiv_(m, v.sqrt().div_(root).add_(1e-8), value=-size)


class Momentum(Run):
    """In place, without any temporary."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.buffers = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self) -> None:
        for p, g, b in zip(self.params, self.grads, self.buffers, strict=True):
            p.add_(b.mul_(MOMENTUM).add_(g), alpha=-LR)


class LionOnLists(Lion):
    """The same by torch's functions of lists."""

    @torch.no_grad()
    def step(self) -> None:
        directions = torch._foreach_lerp(self.means, self.grads, 1 - 0.9)
        torch._foreach_sign_(directions)
        torch._foreach_mul_(self.params, 1 - LR * WEIGHT_DECAY)
        torch._foreach_add_(self.params, directions, alpha=-LR)
        torch._foreach_lerp_(self.means, self.grads, 1 - 0.99)


LOOPS: dict[str, Callable[[Problem], Run]] = {
    "adamw": AdamW,
    "sgd momentum": Momentum,
    "lion": Lion,
}


def contenders(chain: Chain) -> list[Contender]:
    """The loop, for some chains."""
    found = [Contender("loop by hand", LOOPS[chain.name])] if chain.name in LOOPS else []
    if chain.name == "lion":
        found.append(Contender("lists by hand", LionOnLists))
    return found
