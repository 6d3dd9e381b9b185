"""The Schedule-Free and learning-rate-free classes, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off

import math

import torch

from ..aliases import (
    dadapt_adamw,
    prodigy,
    schedule_free_adamw,
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
