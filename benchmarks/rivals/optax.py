"""Optax, compiled by XLA: with parameters and state donated, so updated in place, and without."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..chains import LR, MAX_NORM, MOMENTUM, WEIGHT_DECAY, Chain
from ..contenders import Contender, Run, absent
from ..problems import Problem

try:
    import jax
    import optax
except ImportError:
    jax = None


class Compiled(Run):
    """One program for update and addition."""

    def __init__(self, problem: Problem, make: Callable[[], Any], donated: bool) -> None:
        # Copies: JAX would share the memory, and is free to write there.
        self.params = [jax.numpy.array(p.numpy()) for p in problem.params()]
        self.tx = make()
        self.state = self.tx.init(self.params)
        self._compiled = jax.jit(self._whole, donate_argnums=(0, 2) if donated else ())
        self._known: dict[int, list[jax.Array]] = {}

    def _whole(self, params, grads, state):
        updates, state = self.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def give(self, grads: Sequence[Tensor]) -> None:
        # Its arrays cannot change, so one copy of each set of gradients is enough.
        if id(grads) not in self._known:
            self._known[id(grads)] = [jax.numpy.array(g.numpy()) for g in grads]
        self.grads = self._known[id(grads)]

    def step(self) -> None:
        self.params, self.state = self._compiled(self.params, self.grads, self.state)
        jax.block_until_ready((self.params, self.state))

    def values(self) -> list[Tensor]:
        return [torch.from_numpy(np.array(p)) for p in self.params]


def _adamw() -> Any:
    return optax.adamw(LR, weight_decay=WEIGHT_DECAY)


MAKERS: dict[str, Callable[[], Any]] = {
    "adamw": _adamw,
    "sgd momentum": lambda: optax.sgd(LR, momentum=MOMENTUM),
    "lion": lambda: optax.lion(LR, weight_decay=WEIGHT_DECAY),
    "clip + adamw": lambda: optax.chain(optax.clip_by_global_norm(MAX_NORM), _adamw()),
}


def contenders(chain: Chain) -> list[Contender]:
    """Without donation; AdamW with it, too."""
    if chain.name not in MAKERS:
        return []
    found = [_with(chain.name, donated=False)]
    return [_with(chain.name, donated=True), *found] if chain.name == "adamw" else found


def _with(name: str, donated: bool) -> Contender:
    title = f"Optax {name}, jit" + ", donated" * donated
    meets = "donated" if donated else "pure"
    if jax is None:
        return absent(title, "jax and optax are not installed")._replace(meets=meets)
    make = functools.partial(Compiled, make=MAKERS[name], donated=donated)
    return Contender(title, make, devices=("cpu",), meets=meets)
