"""Methods with matrices for every dimension: steps are those of the package."""

import functools
import types

import numpy
import pytest
import torch

import funcopt as fo
from funcopt._numerics.random import Draw

from .frameworks import needed
from .test_parity_authors import (
    TOLERANCE,
    difference,
    of_port,
    purely_stepped,
    row,
    stepped,
    unrounded,
)
from .test_parity_ports import UnderScheduler

pytestmark = pytest.mark.usefixtures("in_float64")

SIDES = {"sgd": 1, "adagrad": 2, "rmsprop": 3, "sign": 4}
"""The methods whose norm is taken, and their numbers in the port."""


def blocks(norm, steps, start, size, b1=0.0, b2=0.99, nesterov=False, decay=0.0):
    """`ScalableShampoo`, with its epsilon: a first value of the matrices, which is forgotten.

    With a smaller `b2`, so little is left of it after 200 steps that rounding chooses directions.
    """
    magnitude = {
        "sgd": fo.identity(),
        "adagrad": fo.scale_by_adagrad(eps=1e-10),
        "rmsprop": fo.scale_by_rms(b2, 1e-10),
        "sign": fo.scale_by_sign(),
    }[norm]
    scaling = fo.scale_by_shampoo(
        b2,
        eps=lambda t: 1e-2 * b2 ** (t + 1) / (1 - b2 ** (t + 1)),
        precondition_frequency=steps,
        start_preconditioning_step=steps,
        block_size=size,
    )
    tx = fo.chain(
        fo.graft(magnitude, scaling, start=start),
        fo.add_decayed_weights(decay),
        fo.trace(b1, nesterov=nesterov),
        fo.scale_by_learning_rate(0.01),
    )
    given = {
        "graft_type": SIDES[norm],
        "preconditioning_compute_steps": steps,
        "start_preconditioning_step": start,
        "block_size": size,
        "betas": (b1, b2),
        "nesterov": nesterov,
        "weight_decay": decay,
    }
    exact = {"lr": 0.01, "matrix_eps": 1e-2, "use_svd": True, "shape_interpretation": False}
    name = f"pytorch_optimizer.ScalableShampoo({', '.join(f'{k}={v}' for k, v in given.items())})"
    made = row(name, tx, of_port("ScalableShampoo", **given, **exact))
    # A vector has no matrix there, and the update of the other method here too if that is SGD.
    return made._replace(shapes=MATRICES if norm in ("adagrad", "rmsprop", "sign") else ALL)


MATRICES = [(5, 3), (4, 4), (7, 2), (2, 3, 4)]
ALL = [(), (7,), *MATRICES]
SCALABLE = [
    blocks("sgd", 1, 1, 2),
    blocks("sgd", 3, 6, 3, decay=0.1),
    blocks("adagrad", 2, 8, 2, decay=0.1),
    blocks("rmsprop", 5, 10, 4),
    blocks("sign", 1, 1, 100),
    blocks("sgd", 1, 1, 2, b1=0.9, nesterov=True, decay=0.1),
    blocks("rmsprop", 1, 1, 3, b1=0.8),
]


# PSGD-Kron: theirs draws its probes, and when to balance; it is given ours.


class like_the_port(fo.TensorRule):
    """Bounds the root mean square as there: by `clip_by_block_rms`, but with an epsilon."""

    def update_tensor(self, g, slots, p, s):
        return g * (1.1 / (g.square().mean().sqrt() + 1e-6)).clamp(max=1.0), slots


def is_matrix(name, p):
    return p.ndim > 1


class Kron:
    """Theirs, with our probes and with balances in every `balance_every`-th fit."""

    def __init__(self, params, balance_every, **options):
        options = {"precondition_dtype": torch.float64, **options}
        self.opt = of_port("Kron", **options)(params)
        self.place = needed("pytorch_optimizer.optimizer.psgd")
        self.params, self.param_groups = params, self.opt.param_groups
        self.balance_every, self.count, self.fits = balance_every, 0, 0

    def probe(self, x, **kwargs):
        i = [p.shape for p in self.params].index(x.shape)
        return Draw(str(i), x).normal(3, self.param_groups[0]["step"], x)

    def chance(self):
        """It is asked in every step, and counts where Q is fitted."""
        group = self.param_groups[0]
        probability = group["pre_conditioner_update_probability"]
        if probability is None:
            probability = self.place.precondition_update_prob_schedule()
        if callable(probability):
            probability = probability(group.get("step", 0))
        self.count += 1
        if self.count < 1 / probability:
            return 1.0
        self.count, self.fits = 0, self.fits + 1
        return 0.0 if self.fits % self.balance_every == 0 else 1.0

    def step(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.place.torch, "randn_like", self.probe)
            random = types.SimpleNamespace(random=self.chance)
            patch.setattr(self.place, "np", types.SimpleNamespace(random=random, argsort=argsort))
            self.opt.step()


def argsort(shape):
    return numpy.argsort(shape, kind="stable")


def psgd(own, decay=0.0, shapes=ALL, **given):
    tx = fo.chain(
        fo.scale_by_kron(seed=3, **own),
        like_the_port(),
        fo.masked(fo.add_decayed_weights(decay), is_matrix),
        fo.scale_by_learning_rate(0.01),
    )
    every = own.get("balance_every", 100)
    theirs = functools.partial(Kron, balance_every=every, lr=0.01, weight_decay=decay, **given)
    return row(f"pytorch_optimizer.Kron({own})", tx, theirs)._replace(shapes=shapes)


PSGD = [
    psgd({}),
    psgd({"balance_every": 3}, decay=0.1),
    psgd(
        {"momentum": 0.5, "update_probability": 0.3, "memory_save_mode": "one_diag"},
        momentum=0.5,
        pre_conditioner_update_probability=0.3,
        memory_save_mode="one_diag",
    ),
    psgd(
        {"memory_save_mode": "smart_one_diag", "momentum_into_precond_update": False},
        memory_save_mode="smart_one_diag",
        momentum_into_precondition_update=False,
        decay=0.1,
    ),
    psgd({"memory_save_mode": "all_diag", "balance_every": 5}, memory_save_mode="all_diag"),
    psgd(
        {"max_size_triangular": 4, "min_ndim_triangular": 1},
        max_size_triangular=4,
        min_ndim_triangular=1,
    ),
    psgd(
        {"update_probability": fo.exponential_decay(1.0, 10, 0.5, end_value=0.1)},
        pre_conditioner_update_probability=lambda t: max(0.5 ** (t / 10), 0.1),
    ),
]

ROWS = [*SCALABLE, *PSGD]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_the_package(row):
    with unrounded(row.name):
        theirs, _ = stepped(row.theirs, row.average, row.shapes)
    ours, _ = stepped(row.ours, row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
    assert difference(purely_stepped(row.tx, row.average, row.shapes), theirs) <= TOLERANCE


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_so_they_are_under_a_scheduler(row):
    with unrounded(row.name):
        theirs, _ = stepped(lambda ps: UnderScheduler(row.theirs(ps)), row.average, row.shapes)
    ours, _ = stepped(lambda ps: UnderScheduler(row.ours(ps)), row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
