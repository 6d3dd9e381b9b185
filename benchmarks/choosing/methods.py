"""The optimizers that are compared: each with two numbers free, and all else as it comes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import funcopt as fo

Make = Callable[[Any, Any], fo.GradientTransformation]


class Method(NamedTuple):
    """An optimizer, waiting for its learning rate and for the number that matters most after it."""

    make: Make  # of a schedule of the learning rate, and of the second number
    lr: float  # a guess: what is tried begins at a tenth of it
    second: str  # the argument, or what it stands for
    values: tuple[Any, Any, Any]  # of the second number; the first is used while rates are tried
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of the learning rate, for each value
    decays: bool = True  # follows the schedule; else the rate stays after the warm-up

    def moved(self, lr: float, old: Any, new: Any) -> float:
        """The learning rate for another value of the second number."""
        return lr * self.factors[self.values.index(new)] / self.factors[self.values.index(old)]

    def description(self) -> dict[str, Any]:
        """What a result depends on, as it is in a file of results."""
        listed = [list(v) if isinstance(v, tuple) else v for v in self.values]
        return {
            "lr": self.lr,
            "second": self.second,
            "values": listed,
            "factors": list(self.factors),
            "decays": self.decays,
        }


def of(
    alias: Callable[..., fo.GradientTransformation],
    lr: float,
    second: str,
    values: tuple[Any, Any, Any],
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0),
    decays: bool = True,
    **fixed: Any,
) -> Method:
    """An alias whose second number is an argument of that name."""
    return Method(
        lambda rate, value: alias(rate, **{second: value}, **fixed),
        lr,
        second,
        values,
        factors,
        decays,
    )


BETAS = ((0.9, 0.999), (0.9, 0.99), (0.9, 0.95))
SUMMED = (1.0, 10.0, 0.5)  # rates for momenta of 0.9, 0 and 0.95 that sum up gradients
RATIO = "adamw_lr / lr"


def times(factor: float, schedule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A schedule, multiplied."""
    return lambda step: factor * schedule(step)


def hidden(alias: Callable[..., fo.GradientTransformation], **fixed: Any) -> Method:
    """Of the matrices of hidden layers; the second number is the learning rate of AdamW's part."""
    return Method(
        lambda rate, ratio: alias(rate, adamw_lr=times(ratio, rate), dims="flatten", **fixed),
        3e-3,
        RATIO,
        (1.0, 0.3, 3.0),
    )


KNOWN = {
    "AdamW": of(fo.adamw, 3e-3, "betas", BETAS),
    "SGD": of(fo.sgd, 0.03, "momentum", (0.9, 0.0, 0.95), SUMMED),
    "Muon": hidden(fo.muon, adjust_lr_fn="match_rms_adamw"),
    "SOAP": of(fo.soap, 3e-3, "betas", ((0.95, 0.95), (0.9, 0.99), (0.9, 0.95))),
    "Lion": of(fo.lion, 3e-4, "betas", ((0.9, 0.99), (0.95, 0.98), (0.8, 0.95)), weight_decay=0.01),
    "AdamWScheduleFree": of(
        fo.schedule_free_adamw,
        3e-3,
        "betas",
        ((0.9, 0.999), (0.9, 0.99), (0.95, 0.99)),
        decays=False,
    ),
    "Adafactor": of(fo.adafactor, 0.1, "d", (1.0, 2.0, 0.5)),
    "NAdam": of(fo.nadam, 3e-3, "betas", BETAS),
    "Adam": of(fo.adam, 3e-3, "betas", BETAS),
    "Shampoo": of(
        fo.shampoo,
        0.03,
        "beta2",
        (None, 0.99, 0.9),
        momentum=0.9,
        graft=True,
        precondition_frequency=10,
    ),
    "DistributedShampoo": of(
        fo.distributed_shampoo, 3e-3, "betas", ((0.9, 0.999), (0.9, 0.99), (0.9, 0.95))
    ),
    "Kron": of(fo.kron, 1e-3, "momentum", (0.9, 0.95, 0.8)),
    "Prodigy": of(fo.prodigy, 0.1, "betas", BETAS),
    "LAMB": of(fo.lamb, 3e-3, "betas", BETAS),
    "RMSprop": of(fo.rmsprop, 1e-3, "alpha", (0.99, 0.9, 0.95)),
    "Adagrad": of(fo.adagrad, 1e-2, "initial_accumulator_value", (0.0, 1e-6, 1e-3)),
    "SGDScheduleFree": of(fo.schedule_free_sgd, 0.3, "momentum", (0.9, 0.95, 0.8), decays=False),
    "Adan": of(fo.adan, 3e-3, "betas", ((0.98, 0.92, 0.99), (0.95, 0.9, 0.95), (0.9, 0.9, 0.95))),
    "RAdam": of(fo.radam, 1e-2, "betas", BETAS),
    "MARS": of(fo.mars, 3e-3, "gamma", (0.025, 0.1, 0.005)),
    "AdEMAMix": of(
        fo.ademamix,
        1e-3,
        "betas",
        ((0.9, 0.999, 0.9999), (0.9, 0.999, 0.99), (0.9, 0.99, 0.98)),
    ),
    "Adadelta": of(fo.adadelta, 1.0, "rho", (0.9, 0.95, 0.99)),
    "LARS": of(fo.lars, 1.0, "momentum", (0.9, 0.0, 0.95), SUMMED),
}
"""The best known, which come first."""

RELATIVES = {
    "AdaBelief": of(fo.adabelief, 3e-3, "betas", BETAS),
    "Ano": of(fo.ano, 1e-3, "betas", ((0.92, 0.99), (0.9, 0.999), (0.95, 0.99))),
    "FiraAdamW": of(fo.fira_adamw, 1e-2, "rank", (16, 8, 32), update_gap=50),
    "ADOPT": of(fo.adopt, 3e-3, "betas", ((0.9, 0.9999), (0.9, 0.99), (0.9, 0.95))),
    "NAdamW": of(fo.nadamw, 3e-3, "betas", BETAS),
    "StableAdamW": of(fo.stable_adamw, 3e-3, "betas", ((0.9, 0.99), (0.9, 0.999), (0.9, 0.95))),
    "AMSGrad": of(fo.amsgrad, 3e-3, "betas", BETAS),
    "Adamax": of(fo.adamax, 1e-2, "betas", BETAS),
    "AdamaxW": of(fo.adamaxw, 1e-2, "betas", BETAS),
    "Yogi": of(fo.yogi, 1e-2, "eps", (1e-3, 1e-5, 1e-8)),
    "AdamC": Method(
        lambda rate, decay: fo.adamc(rate, weight_decay=decay, max_lr=rate.peak_value),
        3e-3,
        "weight_decay",
        (0.01, 0.1, 0.001),
    ),
    "GrokFastAdamW": of(fo.grokfast_adamw, 3e-3, "lamb", (2.0, 0.5, 5.0)),
    "GrokAdamW": of(fo.grokadamw, 3e-3, "lamb", (2.0, 0.5, 5.0)),
    "LaProp": of(fo.laprop, 3e-3, "betas", BETAS),
    "Ranger": of(fo.ranger, 1e-2, "betas", ((0.95, 0.999), (0.95, 0.99), (0.9, 0.99))),
    "QHAdam": of(fo.qhadam, 3e-3, "nus", ((1.0, 1.0), (0.7, 1.0), (0.9, 1.0))),
    "AdamP": of(fo.adamp, 3e-3, "betas", BETAS),
    "AdaBound": Method(
        lambda rate, final: fo.adabound(rate, final_lr=final, base_lr=rate.peak_value),
        3e-3,
        "final_lr",
        (0.1, 1.0, 0.01),
    ),
    "DiffGrad": of(fo.diffgrad, 3e-3, "betas", BETAS),
    "Padam": of(fo.padam, 0.03, "partial", (0.25, 0.125, 0.375)),
    "Grams": of(fo.grams, 3e-3, "betas", BETAS),
    "AdaMod": of(
        fo.adamod, 3e-3, "betas", ((0.9, 0.999, 0.999), (0.9, 0.999, 0.99), (0.9, 0.99, 0.9))
    ),
    "ACProp": of(fo.acprop, 3e-3, "betas", BETAS),
    "OptimisticAdam": of(fo.optimistic_adam, 1e-3, "betas", BETAS),
    "SimplifiedAdEMAMix": of(fo.simplified_ademamix, 1e-4, "alpha", (0.0, 10.0, 50.0)),
    "MADGRAD": of(fo.madgrad, 1e-2, "momentum", (0.9, 0.5, 0.0)),
    "NovoGrad": of(fo.novograd, 1e-2, "betas", ((0.9, 0.25), (0.95, 0.98), (0.9, 0.9))),
    "RMSpropTF": of(fo.rmsprop_tf, 3e-3, "alpha", (0.9, 0.99, 0.95)),
}

SIGNS_AND_MOMENTA = {
    "ASGD": of(fo.asgd, 0.1, "t0", (1e6, 150.0, 225.0), decays=False),
    "SGDW": of(fo.sgdw, 0.03, "momentum", (0.9, 0.0, 0.95), SUMMED, weight_decay=0.01),
    "SGDP": of(fo.sgdp, 0.03, "momentum", (0.9, 0.0, 0.95), SUMMED),
    "QHM": of(fo.qhm, 0.3, "momentum", (0.999, 0.99, 0.9)),
    "AggMo": of(fo.aggmo, 0.01, "betas", ((0.0, 0.9, 0.99), (0.0, 0.9), (0.0, 0.5, 0.9))),
    "Signum": of(fo.signum, 3e-4, "momentum", (0.9, 0.95, 0.8)),
    "SignSGD": of(fo.sign_sgd, 3e-4, "weight_decay", (0.0, 0.01, 0.1)),
    "Tiger": of(fo.tiger, 3e-4, "beta", (0.965, 0.9, 0.99)),
    "OptimisticGradientDescent": of(fo.optimistic_gradient_descent, 0.1, "beta", (1.0, 0.5, 0.1)),
    "Fromage": of(fo.fromage, 1e-2, "min_norm", (1e-6, 1e-2, 1.0)),
}

MATRICES = {
    "NorMuon": hidden(fo.normuon, match_rms_adamw=True),
    "AdaMuon": hidden(fo.adamuon),
    "NAMO": hidden(fo.namo),
    "Scion": of(fo.scion, 3e-4, "other_radius", (3000.0, 300.0, 100.0), dims="flatten"),
}

FREE = {
    "DAdaptAdamW": of(fo.dadapt_adamw, 0.1, "betas", BETAS),
    "RAdamScheduleFree": of(fo.schedule_free_radam, 1e-2, "betas", BETAS, decays=False),
    "DoG": of(fo.dog, 0.3, "reps_rel", (1e-6, 1e-4, 1e-2)),
    "LDoG": of(fo.ldog, 0.3, "reps_rel", (1e-6, 1e-4, 1e-2)),
    "DoWG": of(fo.dowg, 0.3, "eps", (1e-4, 1e-2, 1e-6)),
    "COCOB": of(fo.cocob, 1.0, "alpha", (100.0, 10.0, 1000.0)),
    "PolyakSGD": of(fo.polyak_sgd, 0.1, "max_lr", (1.0, 0.1, 10.0)),
    "MoMo": of(fo.momo, 0.3, "beta", (0.9, 0.0, 0.95)),
    "MoMoAdam": of(fo.momo_adam, 3e-3, "betas", BETAS),
}

SMALL = {
    "AdamMini": of(fo.adam_mini, 3e-3, "betas", BETAS),
    "CAME": of(
        fo.came, 1e-3, "betas", ((0.9, 0.999, 0.9999), (0.9, 0.99, 0.999), (0.9, 0.95, 0.99))
    ),
    "SM3": of(fo.sm3, 0.03, "momentum", (0.9, 0.0, 0.95)),
    "T5Adafactor": of(fo.t5_adafactor, 1.0, "beta1", (None, 0.9, 0.5)),
    "GaLoreAdamW": of(fo.galore_adamw, 1e-2, "rank", (16, 8, 32), update_gap=50),
    "GaLoreAdafactor": of(fo.galore_adafactor, 1e-2, "rank", (16, 8, 32), update_gap=50),
    "APOLLOAdamW": of(fo.apollo_adamw, 1e-2, "rank", (16, 8, 32), update_gap=50),
    "RowwiseAdagrad": of(fo.rowwise_adagrad, 1e-2, "initial_accumulator_value", (0.0, 1e-6, 1e-3)),
    "LazyAdam": of(fo.lazy_adam, 3e-3, "betas", BETAS),
}

WRAPPED = {
    "SGD, Nesterov": of(fo.sgd, 0.03, "momentum", (0.9, 0.8, 0.95), (1.0, 2.0, 0.5), nesterov=True),
    "AdamW, lookahead": Method(
        lambda rate, betas: fo.lookahead(fo.adamw(rate, betas=betas)), 3e-3, "betas", BETAS
    ),
    "AdamW, cautious": Method(
        lambda rate, betas: fo.cautious(fo.adamw(rate, betas=betas)), 3e-3, "betas", BETAS
    ),
    "AdamW, SAM": Method(
        lambda rate, rho: fo.sam(fo.adamw(rate), rho=rho), 3e-3, "rho", (0.05, 0.02, 0.1)
    ),
    "AdamW, average": Method(
        lambda rate, decay: fo.chain(fo.adamw(rate), fo.ema_of_params(decay)),
        3e-3,
        "decay of the average",
        (0.99, 0.98, 0.95),
        decays=False,
    ),
}
"""Optimizers in combinators, whose names have a comma."""

METHODS = {
    **KNOWN,
    **RELATIVES,
    **SIGNS_AND_MOMENTA,
    **MATRICES,
    **FREE,
    **SMALL,
    **WRAPPED,
}
"""By the name in the table: that of the class in `fo.optim`."""

EXCEPTIONS = {
    "LBFGS": "a line search wants the same data in every evaluation of a step",
    "Rprop": "the signs of gradients of different batches are compared",
    "Sophia": "it takes estimates of the Hessian's diagonal, which the others do not get",
}
"""The classes of `fo.optim` that are not compared, and why."""


def transformation(method: Method, lr: float, second: Any, steps: int) -> fo.GradientTransformation:
    """The optimizer with a tenth of the steps for the warm-up, and half a cosine down to 1 %."""
    warmup = max(1, steps // 10)
    if not method.decays:
        return method.make(fo.linear_schedule(lr / warmup, lr, warmup), second)
    return method.make(
        fo.warmup_cosine_decay_schedule(
            lr / warmup, lr, warmup, decay_steps=steps, end_value=lr / 100
        ),
        second,
    )
