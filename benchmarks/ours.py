"""funcopt, in its three forms."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import funcopt as fo

from .chains import Chain
from .contenders import Contender, Run, Stepping
from .problems import Problem

AVERAGES = ("ema_params", "slow")
"""The slots by which a model is evaluated."""


class Wrapped(Stepping):
    """The optimizer, with the engine that it chooses unless one is named."""

    def __init__(self, problem: Problem, chain: Chain, engine: str | None) -> None:
        named = {} if engine is None else {"engine": engine}
        super().__init__(problem, lambda ps: fo.Optimizer(ps, chain.tx, **named))

    def values(self) -> list[Tensor]:
        states = self.opt.state.values()
        return [*self.params, *(own[key] for key in AVERAGES for own in states if key in own)]


class Pure(Run):
    """The pure form: what goes in is lost if it is donated, else kept."""

    def __init__(self, problem: Problem, chain: Chain, step: Any) -> None:
        super().__init__(problem)
        self.tx = chain.tx
        self.state = self.tx.init(self.params)
        self._step = step(chain.tx)

    def step(self) -> None:
        self.params, self.state = self._step(self.params, self.grads, self.state)

    def values(self) -> list[Tensor]:
        shown = fo.eval_params(self.tx, self.state, self.params)
        pairs = zip(shown, self.params, strict=True)
        return [*self.params, *(average for average, p in pairs if average is not p)]


def _kept(tx: fo.GradientTransformation) -> Any:
    def step(params: Any, grads: Any, state: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return fo.apply_updates(params, updates), state

    return torch.no_grad()(step)


def _kept_in_one_pass(tx: fo.GradientTransformation) -> Any:
    def step(params: Any, grads: Any, state: Any) -> Any:
        return fo.update_and_apply(tx, grads, state, params)

    return torch.no_grad()(step)


def engines() -> list[str]:
    """The engines that can be asked for by name."""
    has_any = "engine" in inspect.signature(fo.Optimizer.__init__).parameters
    return ["eager", "torch", "fused", "compiled"] if has_any else []


def engine_of(run: Run) -> str:
    """The engine that the optimizer uses."""
    return str(getattr(getattr(run, "opt", None), "engine", "loop"))


def wrapped(chain: Chain, engine: str | None = None) -> Contender:
    """The chain as an optimizer."""
    name = "funcopt" if engine is None else f"funcopt, engine={engine}"
    return Contender(name, lambda problem: Wrapped(problem, chain, engine))


def donated(chain: Chain) -> Contender:
    """The chain as a function, of which parameters and state are lost."""
    return Contender("funcopt, donated", lambda problem: Pure(problem, chain, fo.donated))


def pure(chain: Chain) -> Contender:
    """`update` and `apply_updates`, of which nothing is lost."""
    return Contender("funcopt, pure", lambda problem: Pure(problem, chain, _kept))


def in_one_pass(chain: Chain) -> Contender:
    """The same by `update_and_apply`."""
    return Contender("funcopt, one pass", lambda problem: Pure(problem, chain, _kept_in_one_pass))


def forms(chain: Chain, meets: str, engine: str | None = None) -> list[Contender]:
    """The forms of ours that somebody meets."""
    if meets == "optimizer":
        return [wrapped(chain, engine)]
    return [donated(chain)] if meets == "donated" else [pure(chain), in_one_pass(chain)]


def contenders(chain: Chain, engine: str | None = None) -> Sequence[Contender]:
    """All four."""
    return [wrapped(chain, engine), donated(chain), pure(chain), in_one_pass(chain)]
