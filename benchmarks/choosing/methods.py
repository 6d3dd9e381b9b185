"""The optimizers that are compared, each with its learning rate free and all else as it comes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import funcopt as fo


class Method(NamedTuple):
    """An optimizer, waiting for a learning rate."""

    make: Callable[[Any], fo.GradientTransformation]  # of a rate, or of a schedule for it
    middle: float  # of the rates that are tried
    decays: bool = True  # follows the schedule; else the rate stays after the warm-up


METHODS = {
    "SGD": Method(fo.sgd, 0.3),
    "SGD, momentum": Method(lambda lr: fo.sgd(lr, momentum=0.9), 0.1),
    "SGD, Nesterov": Method(lambda lr: fo.sgd(lr, momentum=0.9, nesterov=True), 0.1),
    "ASGD": Method(fo.asgd, 0.3, decays=False),
    "Adagrad": Method(fo.adagrad, 0.03),
    "Adadelta": Method(fo.adadelta, 3.0),
    "RMSprop": Method(fo.rmsprop, 3e-3),
    "Adam": Method(fo.adam, 3e-3),
    "AdamW": Method(fo.adamw, 3e-3),
    "NAdam": Method(fo.nadam, 3e-3),
    "RAdam": Method(fo.radam, 3e-3),
    "Adamax": Method(fo.adamax, 1e-2),
    "Lion": Method(lambda lr: fo.lion(lr, weight_decay=0.01), 3e-4),
    "Adafactor": Method(fo.adafactor, 1e-2),
    "LAMB": Method(fo.lamb, 1e-2),
    "LARS": Method(fo.lars, 1.0),
    "Muon and AdamW": Method(
        lambda lr: fo.muon(lr, adjust_lr_fn="match_rms_adamw", dims="flatten", adamw_lr=lr), 3e-3
    ),
    "Shampoo": Method(
        lambda lr: fo.shampoo(lr, momentum=0.9, graft=True, precondition_frequency=10), 0.1
    ),
    "SOAP": Method(fo.soap, 3e-3),
    "Prodigy": Method(fo.prodigy, 1.0),
    "D-Adapt AdamW": Method(fo.dadapt_adamw, 1.0),
    "schedule-free SGD": Method(fo.schedule_free_sgd, 1.0, decays=False),
    "schedule-free AdamW": Method(fo.schedule_free_adamw, 1e-2, decays=False),
    "AdamW, lookahead": Method(lambda lr: fo.lookahead(fo.adamw(lr)), 3e-3),
    "AdamW, cautious": Method(lambda lr: fo.cautious(fo.adamw(lr)), 3e-3),
    "AdamW, MARS": Method(fo.mars, 3e-3),
    "AdamW, SAM": Method(lambda lr: fo.sam(fo.adamw(lr), rho=0.05), 3e-3),
    "AdamW, average": Method(
        lambda lr: fo.chain(fo.adamw(lr), fo.ema_of_params(0.99)), 3e-3, decays=False
    ),
}
"""By the name in the table. L-BFGS, Newton-CG and Rprop want the whole data in every step, so a
race on batches is not theirs."""


def rates(middle: float, count: int = 7) -> list[float]:
    """Learning rates around `middle`, two in a decade."""
    return [middle * 10 ** ((i - count // 2) / 2) for i in range(count)]


def transformation(method: Method, lr: Any, steps: int) -> fo.GradientTransformation:
    """The optimizer with a tenth of the steps for the warm-up, and half a cosine down to 1 %."""
    warmup = max(1, steps // 10)
    if not method.decays:
        return method.make(fo.linear_schedule(lr / warmup, lr, warmup))
    return method.make(
        fo.warmup_cosine_decay_schedule(
            lr / warmup, lr, warmup, decay_steps=steps, end_value=lr / 100
        )
    )
