"""The Schedule-Free and learning-rate-free classes, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off

import math
from typing import Literal

import torch

from ..aliases import (
    cocob,
    dadapt_adamw,
    dog,
    dowg,
    ldog,
    momo,
    momo_adam,
    polyak_sgd,
    prodigy,
    schedule_free_adamw,
    schedule_free_radam,
    schedule_free_sgd,
)
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer


class SGDScheduleFree(AliasOptimizer, make=schedule_free_sgd):
    """Schedule-Free SGD: `schedule_free` around plain gradient descent, with weight decay.

    See `schedule_free_sgd`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0,
        warmup_steps: int = 0, r: Scalar = 0.0, weight_lr_power: Scalar = 2.0, *,
        store_average: bool = False, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamWScheduleFree(AliasOptimizer, make=schedule_free_adamw):
    """Schedule-Free AdamW: `schedule_free` around `scale_by_adam`, with decoupled weight decay.

    See `schedule_free_adamw`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0025, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, warmup_steps: int = 0, r: Scalar = 0.0,
        weight_lr_power: Scalar = 2.0, inner_momentum: Scalar | None = None, *,
        store_average: bool = False, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Prodigy(AliasOptimizer, make=prodigy):
    """Prodigy: `scale_by_prodigy`, negated; see `prodigy`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        beta3: Scalar | None = None, eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
        decouple: bool = True, use_bias_correction: bool = False, safeguard_warmup: bool = False,
        d0: Scalar = 1e-6, d_coef: Scalar = 1.0, growth_rate: Scalar = math.inf, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class DAdaptAdamW(AliasOptimizer, make=dadapt_adamw):
    """AdamW by D-Adaptation: `scale_by_dadapt_adam`, negated; see `dadapt_adamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, decouple: bool = True,
        use_bias_correction: bool = False, d0: Scalar = 1e-6, growth_rate: Scalar = math.inf,
        layer_scale: Scalar = 1.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RAdamScheduleFree(AliasOptimizer, make=schedule_free_radam):
    """Schedule-Free RAdam: `schedule_free_adamw` with a rectified learning rate, without warm-up.

    See `schedule_free_radam`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0025, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, r: Scalar = 0.0,
        weight_lr_power: Scalar = 2.0, *, store_average: bool = False,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class DoG(AliasOptimizer, make=dog):
    """DoG: `scale_by_dog`, with L2 regularization. Leave `lr` at 1; see `dog`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, reps_rel: Scalar = 1e-6, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LDoG(AliasOptimizer, make=ldog):
    """LDoG, DoG for each tensor by itself: `scale_by_ldog`, with L2 regularization; see `ldog`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, reps_rel: Scalar = 1e-6, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class DoWG(AliasOptimizer, make=dowg):
    """DoWG: `scale_by_dowg`, with L2 regularization. Leave `lr` at 1; see `dowg`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, init_dist: Scalar | None = None,
        eps: Scalar = 0.0001, weight_decay: Scalar = 0.0, *, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class COCOB(AliasOptimizer, make=cocob):
    """COCOB: `scale_by_cocob`, with L2 regularization. There is no learning rate; see `cocob`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, alpha: Scalar = 100.0, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class PolyakSGD(AliasOptimizer, make=polyak_sgd):
    """Polyak SGD: gradient descent by Polyak's step size, `scale_by_polyak`; see `polyak_sgd`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, max_lr: Scalar = 1.0, f_min: Scalar = 0.0,
        eps: Scalar = 0.0, variant: Literal["sps", "sps+"] = "sps", *, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class MoMo(AliasOptimizer, make=momo):
    """MoMo, SGD with momentum and a step size from the loss: `scale_by_momo`, negated.

    See `momo`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, beta: Scalar = 0.9, lower_bound: Scalar = 0.0,
        weight_decay: Scalar = 0.0, adapt_lower_bound: bool = False, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class MoMoAdam(AliasOptimizer, make=momo_adam):
    """MoMo-Adam, AdamW with a step size from the loss: `scale_by_momo_adam`, negated.

    See `momo_adam`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, lower_bound: Scalar = 0.0, weight_decay: Scalar = 0.0,
        adapt_lower_bound: bool = False, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
