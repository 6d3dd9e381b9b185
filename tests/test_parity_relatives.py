"""Older relatives of Adam and of momentum: steps are those of the package, also under a scheduler.

They are ports; where a port and the code of the authors differ, ours is that of the authors.
"""

import pytest

import funcopt as fo
from funcopt import optim

from .test_parity_authors import (
    TOLERANCE,
    difference,
    purely_stepped,
    stepped,
    unrounded,
)
from .test_parity_ports import UnderScheduler, port

COUPLED = {"weight_decouple": False}


DECAY = {"weight_decay": 0.1}
NESTEROV = {"nesterov": True, "wd_ratio": 0.3}
ROWS = [
    port("QHM", fo.qhm, optim.QHM, {"lr": 0.1}, momentum=0.999, nu=0.7),
    port("QHM", fo.qhm, optim.QHM, {"lr": 0.1, "momentum": 0.9, "nu": 0.4, **DECAY}),
    port("QHAdam", fo.qhadam, optim.QHAdam, {"nus": (0.7, 1.0), "betas": (0.995, 0.999)}),
    port(
        "QHAdam",
        fo.qhadam,
        optim.QHAdam,
        {"lr": 0.01, "betas": (0.8, 0.95), "nus": (0.3, 0.6), "eps": 1e-3, **DECAY},
    ),
    port(
        "QHAdam",
        fo.qhadam,
        optim.QHAdam,
        {"lr": 0.01, "nus": (0.7, 0.9), "decoupled_weight_decay": True, **DECAY},
        weight_decouple=True,
    ),
    # The port adds the epsilon of the denominator before the bias is corrected.
    port("AdamP", fo.adamp, optim.AdamP, {"lr": 1e-3, "eps": 0.0}),
    port("AdamP", fo.adamp, optim.AdamP, {"lr": 0.01, "eps": 0.0, "delta": 1.0, **DECAY}),
    port(
        "AdamP",
        fo.adamp,
        optim.AdamP,
        {"betas": (0.8, 0.9), "eps": 0.0, "delta": 0.5, "nesterov": True},
    ),
    port("SGDP", fo.sgdp, optim.SGDP, {"lr": 0.01}),
    port("SGDP", fo.sgdp, optim.SGDP, {"lr": 0.01, "momentum": 0.9, "delta": 1.0, **DECAY}),
    port(
        "SGDP",
        fo.sgdp,
        optim.SGDP,
        {"lr": 0.01, "momentum": 0.5, "dampening": 0.3, "delta": 0.5, **DECAY, **NESTEROV},
    ),
    port("AdaBound", fo.adabound, optim.AdaBound, {"lr": 1e-3}),
    port(
        "AdaBound",
        fo.adabound,
        optim.AdaBound,
        {"lr": 0.01, "final_lr": 0.05, "gamma": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, **DECAY},
        **COUPLED,
    ),
    port("DiffGrad", fo.diffgrad, optim.DiffGrad, {"lr": 1e-3}),
    port(
        "DiffGrad",
        fo.diffgrad,
        optim.DiffGrad,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, **DECAY},
        **COUPLED,
    ),
    port("PAdam", fo.padam, optim.Padam, {"lr": 0.01, "amsgrad": False}),
    port(
        "PAdam",
        fo.padam,
        optim.Padam,
        {"lr": 0.01, "partial": 0.125, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": False} | DECAY,
        **COUPLED,
    ),
    port("AggMo", fo.aggmo, optim.AggMo, {"lr": 0.01}),
    port("AggMo", fo.aggmo, optim.AggMo, {"lr": 0.01, "betas": (0.5, 0.8), **DECAY}),
    port("Tiger", fo.tiger, optim.Tiger, {"lr": 1e-3}),
    port("Tiger", fo.tiger, optim.Tiger, {"lr": 0.01, "beta": 0.5, **DECAY}),
    port("Grams", fo.grams, optim.Grams, {"lr": 1e-3}),
    port(
        "Grams",
        fo.grams,
        optim.Grams,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, **DECAY},
    ),
    port("Ano", fo.ano, optim.Ano, {"lr": 1e-3}),
    port(
        "Ano",
        fo.ano,
        optim.Ano,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, **DECAY},
    ),
    port("AdaMod", fo.adamod, optim.AdaMod, {"lr": 1e-3, "betas": (0.9, 0.99, 0.9999)}),
    port(
        "AdaMod",
        fo.adamod,
        optim.AdaMod,
        {"lr": 0.01, "betas": (0.8, 0.95, 0.9), "eps": 1e-3, **DECAY},
    ),
]

pytestmark = pytest.mark.usefixtures("in_float64")


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_the_package(row):
    with unrounded(row.name):
        theirs, _ = stepped(row.theirs, None, row.shapes)
    ours, _ = stepped(row.ours, None, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
    assert difference(purely_stepped(row.tx, None, row.shapes), theirs) <= TOLERANCE


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_so_they_are_under_a_scheduler(row):
    with unrounded(row.name):
        theirs, _ = stepped(lambda ps: UnderScheduler(row.theirs(ps)), None, row.shapes)
    ours, _ = stepped(lambda ps: UnderScheduler(row.ours(ps)), None, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
