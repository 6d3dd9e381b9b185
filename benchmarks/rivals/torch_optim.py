"""The classes of torch, and the kernels below them."""

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..chains import ADADELTA_LR, EMA_DECAY, LR, MAX_NORM, MOMENTUM, WEIGHT_DECAY, Chain
from ..contenders import Contender, Run, Stepping
from ..problems import Problem

CLASSES = {
    "adamw": (torch.optim.AdamW, {"lr": LR, "weight_decay": WEIGHT_DECAY}),
    "sgd momentum": (torch.optim.SGD, {"lr": LR, "momentum": MOMENTUM}),
    "adagrad": (torch.optim.Adagrad, {"lr": LR}),
    "nadam": (torch.optim.NAdam, {"lr": LR}),
    "radam": (torch.optim.RAdam, {"lr": LR}),
    "adadelta": (torch.optim.Adadelta, {"lr": ADADELTA_LR}),
    "rmsprop": (torch.optim.RMSprop, {"lr": LR}),
    "adamax": (torch.optim.Adamax, {"lr": LR}),
    "muon": (torch.optim.Muon, {"lr": LR, "weight_decay": WEIGHT_DECAY}),
    "muon, gram": (torch.optim.Muon, {"lr": LR, "weight_decay": WEIGHT_DECAY}),
    "adafactor": (torch.optim.Adafactor, {"lr": LR}),
}
HAVE_FUSED = {"adamw", "sgd momentum", "adagrad"}
"""Of those in the table; torch has no such kernel for the others."""


class RawFused(Run):
    """`torch._fused_adamw_` on lists that were made once: torch without any bookkeeping."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.exp_avgs = [torch.zeros_like(p) for p in self.params]
        self.exp_avg_sqs = [torch.zeros_like(p) for p in self.params]
        self.count = torch.zeros((), device=problem.device)
        self.counts = len(self.params) * [self.count]  # one for all, so one addition

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        torch._fused_adamw_(
            self.params,
            self.grads,
            self.exp_avgs,
            self.exp_avg_sqs,
            [],
            self.counts,
            lr=LR,
            beta1=0.9,
            beta2=0.999,
            weight_decay=WEIGHT_DECAY,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


class ClippedAveraged(Stepping):
    """Three passes, as torch's documentation puts them together."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(
            problem, lambda ps: torch.optim.AdamW(ps, LR, weight_decay=WEIGHT_DECAY, fused=True)
        )
        self.model = nn.ParameterList(self.params)
        # The variant for lists, which is the faster one.
        average = get_ema_multi_avg_fn(EMA_DECAY)
        self.averaged = AveragedModel(self.model, multi_avg_fn=average)

    def step(self) -> None:
        clip_grad_norm_(self.params, MAX_NORM)
        self.opt.step()
        self.averaged.update_parameters(self.model)

    def values(self) -> list[Tensor]:
        return [*self.params, *self.averaged.parameters()]


def contenders(chain: Chain) -> list[Contender]:
    """The class in all of its settings, and the kernel without the class."""
    if chain.name == "clip + adamw + ema":
        return [Contender("clip_grad_norm_, AdamW(fused=True), AveragedModel", ClippedAveraged)]
    if chain.name not in CLASSES:
        return []
    settings = [{}] if chain.name.startswith("muon") else [{}, {"foreach": True}]
    if chain.name in HAVE_FUSED:
        settings.append({"fused": True})
    found = [_with(chain, setting) for setting in settings]
    if chain.name == "adamw":
        found.append(Contender("torch._fused_adamw_", RawFused))
    return found


def _with(chain: Chain, setting: dict[str, bool]) -> Contender:
    cls, own = CLASSES[chain.name]
    shown = ", ".join(f"{key}={value}" for key, value in setting.items())
    return Contender(
        f"torch {cls.__name__}({shown})",
        lambda problem: Stepping(problem, lambda ps: cls(ps, **own, **setting)),
    )
