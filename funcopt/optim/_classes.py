"""The classes of `torch.optim` and of others, made of the aliases: same arguments, same steps."""

import torch

from ..aliases import (
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    dadapt_adamw,
    lamb,
    lars,
    lion,
    mars,
    muon,
    nadam,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    shampoo,
    soap,
    yogi,
)
from ._alias import optimizer_class
from ._lbfgs import of_torch

SGD = optimizer_class("SGD", sgd, like=torch.optim.SGD)
Adam = optimizer_class("Adam", adam, like=torch.optim.Adam)
AdamW = optimizer_class("AdamW", adamw, like=torch.optim.AdamW)
RMSprop = optimizer_class("RMSprop", rmsprop, like=torch.optim.RMSprop)
Adagrad = optimizer_class("Adagrad", adagrad, like=torch.optim.Adagrad)
Adadelta = optimizer_class("Adadelta", adadelta, like=torch.optim.Adadelta)
Adamax = optimizer_class("Adamax", adamax, like=torch.optim.Adamax)
NAdam = optimizer_class("NAdam", nadam, like=torch.optim.NAdam)
RAdam = optimizer_class("RAdam", radam, like=torch.optim.RAdam)
Adafactor = optimizer_class("Adafactor", adafactor, like=torch.optim.Adafactor)
ASGD = optimizer_class("ASGD", asgd, like=torch.optim.ASGD)
Rprop = optimizer_class("Rprop", rprop, like=torch.optim.Rprop)
SGDScheduleFree = optimizer_class("SGDScheduleFree", schedule_free_sgd)
AdamWScheduleFree = optimizer_class("AdamWScheduleFree", schedule_free_adamw)
LAMB = optimizer_class("LAMB", lamb)
LARS = optimizer_class("LARS", lars)
Lion = optimizer_class("Lion", lion)
MARS = optimizer_class("MARS", mars)
AdaBelief = optimizer_class("AdaBelief", adabelief)
Yogi = optimizer_class("Yogi", yogi)
LBFGS = optimizer_class("LBFGS", of_torch, like=torch.optim.LBFGS)
Muon = optimizer_class("Muon", muon)
SOAP = optimizer_class("SOAP", soap)
Shampoo = optimizer_class("Shampoo", shampoo)
Prodigy = optimizer_class("Prodigy", prodigy)
DAdaptAdamW = optimizer_class("DAdaptAdamW", dadapt_adamw)
