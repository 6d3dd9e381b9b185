"""Every combinator in every other, around an algorithm: the table, and the runs of one row."""

from typing import NamedTuple

import torch

import funcopt as fo

from ..cases import by_dimension, is_matrix
from .common import grads_at


def clean(tx):
    """A branch that bad steps pass by, as they do in `skip_if` beside it."""
    return fo.chain(fo.zero_nans(), tx)


AROUND = {
    "masked": lambda tx: fo.masked(tx, is_matrix),
    "partition": lambda tx: fo.partition({"matrix": tx, "rest": fo.sgd(0.1, 0.9)}, by_dimension),
    "freeze": lambda tx: fo.partition({"matrix": tx, "rest": fo.freeze()}, by_dimension),
    "scheduled": lambda tx: fo.scheduled(tx, **{first_rate(tx): falling}),
    "accumulate": lambda tx: fo.accumulate(tx, 2),
    "skip_if": lambda tx: fo.skip_if(tx),
    "ema": lambda tx: fo.chain(tx, fo.ema_of_params(0.8)),
    "cautious": lambda tx: fo.cautious(tx, floor=0.9),
    "lookahead": lambda tx: fo.lookahead(tx, 2, reset=True),
    "graft": lambda tx: fo.graft(clean(fo.trace(0.5)), tx, "tree", 1e-3),
    "weighted_sum": lambda tx: fo.weighted_sum((clean(fo.scale(-0.1)), tx), (1.0, 0.5)),
    "schedule_free": lambda tx: fo.chain(
        tx, fo.primal_averaging(fo.linear_schedule(0.5, 1.0, 3), momentum=0.8)
    ),
}

ALGORITHMS = {
    "sgd": lambda lr: fo.sgd(lr, momentum=0.9, weight_decay=0.1),
    "adamw": lambda lr: fo.adamw(lr, weight_decay=0.1),
    "clipped nadam": lambda lr: fo.chain(fo.clip_by_global_norm(0.5), fo.nadam(lr)),
    "lamb": lambda lr: fo.lamb(lr, weight_decay=0.1),
    "adafactor": lambda lr: fo.adafactor(lr),
    "prodigy": lambda lr: fo.prodigy(10 * lr, d0=0.01, weight_decay=0.1),
    "mars": lambda lr: fo.mars(lr),
    "soap": lambda lr: fo.soap(lr, precondition_frequency=2),
    "noisy rprop": lambda lr: fo.chain(fo.add_noise(0.01, 0.55), fo.rprop(lr)),
    "centralized dadapt": lambda lr: fo.chain(fo.centralize(), fo.dadapt_adamw(10 * lr, d0=0.01)),
}
"""Slots, decay, bias correction; a sum over tensors, with the memory of a clock; norms of single
tensors; slots of other shapes; one memory for all; the last gradient; rare work; random numbers;
a rate that counts at the first step only; what sees a whole tensor."""

MORE = {
    "asgd": lambda lr: fo.asgd(lr, t0=2),
    "rmsprop": lambda lr: fo.rmsprop(lr, momentum=0.9, centered=True),
    "adagrad": lambda lr: fo.adagrad(lr),
    "adadelta": lambda lr: fo.adadelta(10 * lr),
    "radam": lambda lr: fo.radam(lr, (0.8, 0.6)),
    "adamax": lambda lr: fo.adamax(lr),
    "lion": lambda lr: fo.lion(lr),
    "lars": lambda lr: fo.lars(lr, trust_coefficient=0.1),
    "muon": lambda lr: fo.muon(lr, adamw_lr=lr, ns_dtype=None),
    "shampoo": lambda lr: fo.shampoo(lr, precondition_frequency=2),
    "adabelief": lambda lr: fo.adabelief(lr),
    "yogi": lambda lr: fo.yogi(lr),
    "adaptive clipping": lambda lr: fo.chain(fo.adaptive_grad_clip(0.1), fo.sgd(lr)),
}
"""The others, in one combinator each time. What needs a closure is nested in its own tests."""

LAST = {"ema", "lookahead", "schedule_free", "asgd"}
"""They need the final update,"""
CHANGE = {"cautious", "lookahead", "schedule_free", "graft", "weighted_sum"}
"""so what changes it is not put around them."""
EITHER_SIGN = {"masked", "freeze"}  # not all of their updates are a step down


NOTHING = "nothing"


class Nesting(NamedTuple):
    """`outer` around `inner` around `algorithm`."""

    outer: str
    inner: str
    algorithm: str

    def __str__(self):
        return f"{self.outer}({self.inner}({self.algorithm}))"

    def make(self, lr=0.1):
        tx = {**ALGORITHMS, **MORE}[self.algorithm](lr)
        return AROUND[self.outer](tx if self.inner == NOTHING else AROUND[self.inner](tx))

    @property
    def averages(self):
        """How many averages there are to evaluate with."""
        return sum(part in LAST for part in self)

    @property
    def refused(self):
        """What is said of it, if it makes no sense."""
        if self.outer == "cautious" and self.inner in EITHER_SIGN:
            return "must be known whether `inner` negates the updates"
        if self.outer in CHANGE and LAST.intersection(self[1:]):
            return "needs the final update"
        return None


def first_rate(tx):
    """The key of a learning rate; of the first where several stages have one."""
    return next(key for key in fo.hyperparams(tx) if key.rpartition("/")[2] == "lr")


def falling(count):
    """A schedule in arithmetic that numbers and tensors have in common."""
    return 0.1 / (1.0 + 0.5 * count)


def _rows():
    names = list(ALGORITHMS)
    for i, outer in enumerate(AROUND):
        for j, inner in enumerate(AROUND):  # so that each algorithm meets each combinator
            yield Nesting(outer, inner, names[(i + j) % len(names)])
        for name in MORE:
            yield Nesting(outer, NOTHING, name)


ROWS = [row for row in _rows() if not row.refused]
REFUSED = [row for row in _rows() if row.refused]


def gradients(row):
    """Those of the other tests; where bad steps are skipped, one of them is bad."""

    def grads(params, t):
        found = grads_at(params, t)
        if t == 2 and "skip_if" in row:
            found["w"] = torch.full_like(found["w"], float("nan"))
        return found

    return grads
