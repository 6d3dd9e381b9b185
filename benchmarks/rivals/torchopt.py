"""TorchOpt: chains of functions, as Optax has them, told to work in place, and as they are."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from ..chains import ADADELTA_LR, LR, MAX_NORM, MOMENTUM, WEIGHT_DECAY, Chain
from ..contenders import Contender, Run, absent
from ..problems import Problem

try:
    import torchopt
except ImportError:
    torchopt = None

# Its defaults are not those of torch everywhere; these are the numbers of the table.
MAKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw": ("adamw", {"lr": LR, "weight_decay": WEIGHT_DECAY}),
    "sgd momentum": ("sgd", {"lr": LR, "momentum": MOMENTUM}),
    "adagrad": ("adagrad", {"lr": LR}),
    "radam": ("radam", {"lr": LR, "eps": 1e-8}),
    "adadelta": ("adadelta", {"lr": ADADELTA_LR}),
    "rmsprop": ("rmsprop", {"lr": LR}),
    "adamax": ("adamax", {"lr": LR, "eps": 1e-8}),
}


class Functional(Run):
    """`update`, then `apply_updates`, both in place or not."""

    def __init__(self, problem: Problem, make: Callable[[], Any], inplace: bool) -> None:
        super().__init__(problem)
        self.tx = make()
        self.state = self.tx.init(self.params)
        self.inplace = inplace

    @torch.no_grad()
    def step(self) -> None:
        updates, self.state = self.tx.update(
            self.grads, self.state, params=self.params, inplace=self.inplace
        )
        self.params = torchopt.apply_updates(self.params, updates, inplace=self.inplace)


def contenders(chain: Chain) -> list[Contender]:
    """What it has; of Adam, its own C++ operator too."""
    if chain.name == "clip + adamw":
        return [_as_it_is("clip + adamw", _clipped)]
    if chain.name not in MAKERS:
        return []
    name, own = MAKERS[chain.name]
    settings = [{}, {"use_accelerated_op": True}] if name == "adamw" else [{}]
    found = [_with(name, own, setting) for setting in settings]
    return [*found, _as_it_is(name, lambda: getattr(torchopt, name)(**own))]


def _clipped() -> Any:
    name, own = MAKERS["adamw"]
    clip = torchopt.clip.clip_grad_norm(max_norm=MAX_NORM)
    return torchopt.chain(clip, getattr(torchopt, name)(**own))


def _with(name: str, own: dict[str, Any], setting: dict[str, Any]) -> Contender:
    title = f"TorchOpt {name}" + ", accelerated" * bool(setting)
    if torchopt is None:
        return absent(title, "torchopt is not installed")
    make = functools.partial(getattr(torchopt, name), **own, **setting)
    return Contender(title, lambda problem: Functional(problem, make, inplace=True))


def _as_it_is(name: str, make: Callable[[], Any]) -> Contender:
    title = f"TorchOpt {name}, not in place"
    if torchopt is None:
        return absent(title, "torchopt is not installed")._replace(meets="pure")
    return Contender(title, lambda problem: Functional(problem, make, inplace=False), meets="pure")
