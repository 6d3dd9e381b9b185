"""The classes of Adam's relatives, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    adabelief,
    adabound,
    adamaxw,
    adamc,
    adamod,
    adamp,
    adan,
    ademamix,
    adopt,
    amsgrad,
    ano,
    diffgrad,
    grams,
    grokadamw,
    grokfast_adamw,
    lamb,
    laprop,
    mars,
    nadamw,
    padam,
    qhadam,
    ranger,
    stable_adamw,
    yogi,
)
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer


class AdaBelief(AliasOptimizer, make=adabelief):
    """AdaBelief: `scale_by_belief`, with decoupled weight decay; see `adabelief`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-16, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Yogi(AliasOptimizer, make=yogi):
    """Yogi: `scale_by_yogi`, with decoupled weight decay; see `yogi`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 0.001, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class MARS(AliasOptimizer, make=mars):
    """MARS-AdamW: `add_mars_correction`, then AdamW; see `mars`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.003, betas: tuple[Scalar, Scalar] = (0.95, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, amsgrad: bool = False,
        gamma: Scalar = 0.025, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LAMB(AliasOptimizer, make=lamb):
    """LAMB: `scale_by_adam` and weight decay, then `scale_by_trust_ratio`; see `lamb`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, *, decoupled_weight_decay: bool = False,
        max_ratio: Scalar | None = None, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdEMAMix(AliasOptimizer, make=ademamix):
    """AdEMAMix: `scale_by_ademamix`, with decoupled weight decay; see `ademamix`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001,
        betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999), alpha: Scalar = 2.0,
        beta3_warmup: int | None = None, alpha_warmup: int | None = None, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class GrokFastAdamW(AliasOptimizer, make=grokfast_adamw):
    """GrokFast-EMA: AdamW of the gradient plus `lamb` times an EMA of it; see `grokfast_adamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.9, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, alpha: Scalar = 0.98, lamb: Scalar = 2.0, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class GrokAdamW(AliasOptimizer, make=grokadamw):
    """GrokAdamW: AdamW of clipped gradients plus `lamb` times an EMA of them; see `grokadamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.01, alpha: Scalar = 0.98, lamb: Scalar = 2.0,
        gradient_clipping: Scalar | None = 1.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class ADOPT(AliasOptimizer, make=adopt):
    """ADOPT: `scale_by_adopt`, with L2 regularization or decoupled weight decay; see `adopt`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.9999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, decoupled_weight_decay: bool = False, *,
        clip_exp: Scalar | None = 0.25, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adan(AliasOptimizer, make=adan):
    """Adan: `scale_by_adan`, with decoupled weight decay; see `adan`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001,
        betas: tuple[Scalar, Scalar, Scalar] = (0.98, 0.92, 0.99), eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class StableAdamW(AliasOptimizer, make=stable_adamw):
    """StableAdamW: `scale_by_stable_adamw`, which is AdamW with update clipping.

    See `stable_adamw`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.99),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.01, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class NAdamW(AliasOptimizer, make=nadamw):
    """NAdamW as in Optax: `scale_by_adam` with Nesterov momentum, with decoupled weight decay.

    See `nadamw`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0001, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamaxW(AliasOptimizer, make=adamaxw):
    """Adamax with decoupled weight decay: `scale_by_adamax`, then the decay; see `adamaxw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.002, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0001, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AMSGrad(AliasOptimizer, make=amsgrad):
    """AMSGrad: `adam` with `amsgrad`, which divides by the maximum of the second moments.

    See `amsgrad`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamC(AliasOptimizer, make=adamc):
    """AdamC: `adamw` with corrected weight decay, proportional to the square of the learning rate.

    See `adamc`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.01, max_lr: Scalar | None = None, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LaProp(AliasOptimizer, make=laprop):
    """LaProp: `scale_by_adam` without a first moment, then `ema` of the normalized gradients.

    See `laprop`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0004, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-15, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Ranger(AliasOptimizer, make=ranger):
    """Ranger: `lookahead` around `centralize` and `scale_by_radam`, with decoupled weight decay.

    See `ranger`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.95, 0.999),
        eps: Scalar = 1e-5, weight_decay: Scalar = 0.0, sync_period: int = 6,
        slow_step_size: Scalar = 0.5, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class QHAdam(AliasOptimizer, make=qhadam):
    """QHAdam: `scale_by_qhadam`, with weight decay in the gradient or decoupled; see `qhadam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        nus: tuple[Scalar, Scalar] = (1.0, 1.0), eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *,
        decoupled_weight_decay: bool = False, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamP(AliasOptimizer, make=adamp):
    """AdamP: `scale_by_adamp`, Adam that does not make scale-invariant weights larger.

    See `adamp`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, delta: Scalar = 0.1, wd_ratio: Scalar = 0.1,
        nesterov: bool = False, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdaBound(AliasOptimizer, make=adabound):
    """AdaBound: `scale_by_adabound`, negated, with L2 regularization; see `adabound`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        final_lr: Scalar = 0.1, gamma: Scalar = 0.001, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, amsgrad: bool = False, base_lr: Scalar | None = None, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class DiffGrad(AliasOptimizer, make=diffgrad):
    """DiffGrad: `scale_by_diffgrad`, with L2 regularization; see `diffgrad`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Padam(AliasOptimizer, make=padam):
    """Padam: `scale_by_padam`, with L2 regularization; see `padam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.1, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        partial: Scalar = 0.25, eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
        amsgrad: bool = True, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Grams(AliasOptimizer, make=grams):
    """Grams: `scale_by_grams`, with decoupled weight decay; see `grams`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Ano(AliasOptimizer, make=ano):
    """Ano: `scale_by_ano`, with decoupled weight decay; see `ano`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.92, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdaMod(AliasOptimizer, make=adamod):
    """AdaMod: `scale_by_adamod`, negated, with decoupled weight decay; see `adamod`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001,
        betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.999), eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
