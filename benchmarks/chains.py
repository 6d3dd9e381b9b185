"""The chains of the table, as funcopt makes them."""

from typing import NamedTuple

import torch

import funcopt as fo
from funcopt.combinators import walk

LR = 1e-3
ADADELTA_LR = 1.0  # its steps are small by themselves
WEIGHT_DECAY = 1e-2
MOMENTUM = 0.9
MAX_NORM = 1.0
EMA_DECAY = 0.999


ADAMW = fo.adamw(LR, weight_decay=WEIGHT_DECAY)


class Chain(NamedTuple):
    """A transformation; those who compute the same know it by its name."""

    name: str
    tx: fo.GradientTransformation
    read_again: int = 0
    """Bytes of each element that a sum over all of them needs beforehand."""
    matrices: bool = False
    """It takes nothing else."""
    inside: str = ""
    """The chain that this one calls, in the steps in which it decides to."""
    apart: float = 1e-4
    """How far others may come from us, as a share of the way, and still compute the same."""

    @property
    def has_floor(self) -> bool:
        """Whether every step moves the same bytes of each element."""
        rules = (node for _, node in walk(self.tx))
        return not self.inside and all(getattr(rule, "elementwise", True) for rule in rules)

    def floor(self) -> int:
        """The fewest bytes that a step moves for each element, in float32 and in place.

        The gradient is read; the parameter and every slot are read and written.
        """
        like = torch.zeros(3)
        slots = fo.tree.flatten(self.tx.init([like]).slots)[0]
        own = sum(x.shape == like.shape for x in slots)
        return like.itemsize * (1 + 2 * (1 + own)) + self.read_again


MUON = {"weight_decay": WEIGHT_DECAY, "labels": "muon"}

CHAINS = {
    chain.name: chain
    for chain in [
        Chain("adamw", ADAMW),
        Chain("sgd momentum", fo.sgd(LR, momentum=MOMENTUM)),
        Chain("adagrad", fo.adagrad(LR)),
        Chain("nadam", fo.nadam(LR)),
        Chain("radam", fo.radam(LR)),
        Chain("adadelta", fo.adadelta(ADADELTA_LR)),
        Chain("rmsprop", fo.rmsprop(LR)),
        Chain("adamax", fo.adamax(LR)),
        Chain("lion", fo.lion(LR, weight_decay=WEIGHT_DECAY)),
        Chain(
            "clip + adamw",
            fo.chain(fo.clip_by_global_norm(MAX_NORM), ADAMW),
            read_again=4,
        ),
        Chain(
            "clip + adamw + ema",
            fo.chain(
                fo.clip_by_global_norm(MAX_NORM),
                ADAMW,
                fo.ema_of_params(EMA_DECAY),
            ),
            read_again=4,
        ),
        *(
            Chain(name, fo.muon(LR, **MUON, ns_method=method), matrices=True, apart=0.1)
            for name, method in [("muon", "standard"), ("muon, gram", "gram")]
        ),
        Chain("adafactor", fo.adafactor(LR)),
        *(
            Chain(f"{name}(adamw{rest})", around(ADAMW), inside="adamw")
            for name, rest, around in [
                ("skip_if", "", fo.skip_if),
                ("accumulate", ", 4", lambda tx: fo.accumulate(tx, 4)),
                ("lookahead", "", fo.lookahead),
            ]
        ),
    ]
}
"""By name."""
