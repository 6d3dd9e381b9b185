"""Older relatives of Adam and of momentum: steps are those of the package, also under a scheduler.

They are ports; where a port and the code of the authors differ, ours is that of the authors.
"""

import sys

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .frameworks import needed
from .test_parity_authors import (
    SHAPES,
    TOLERANCE,
    Row,
    beginning,
    difference,
    gradient,
    purely_stepped,
    stepped,
    values,
)
from .test_parity_ports import UnderScheduler, port

COUPLED = {"weight_decouple": False}


def of_timm(name, alias, cls, own):
    return Row(
        f"timm.{name}({own})",
        alias(**own),
        lambda params: cls(params, **own),
        lambda params: getattr(needed("timm.optim"), name)(params, **own),
    )


DECAY = {"weight_decay": 0.1}
NESTEROV = {"nesterov": True, "wd_ratio": 0.3}
ROWS = [
    port("QHM", fo.qhm, optim.QHM, {"lr": 0.1}, momentum=0.999, nu=0.7),
    port("QHM", fo.qhm, optim.QHM, {"lr": 0.1, "momentum": 0.9, "nu": 0.4, **DECAY}),
    port("AdamP", fo.adamp, optim.AdamP, {}),
    port("AdamP", fo.adamp, optim.AdamP, {"lr": 0.01, "delta": 1.0, **DECAY}),
    port("AdamP", fo.adamp, optim.AdamP, {"betas": (0.8, 0.9), "eps": 1e-3, "delta": 0.5}),
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
    port("AdaMod", fo.adamod, optim.AdaMod, {"lr": 1e-3, "betas": (0.9, 0.99, 0.9999)}),
    port(
        "AdaMod",
        fo.adamod,
        optim.AdaMod,
        {"lr": 0.01, "betas": (0.8, 0.95, 0.9), "eps": 1e-3, **DECAY},
    ),
]
