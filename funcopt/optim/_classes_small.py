"""The classes with fewer second moments than entries, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    adam_mini,
    apollo_adamw,
    came,
    fira_adamw,
    galore_adafactor,
    galore_adamw,
    lazy_adam,
    rowwise_adagrad,
    sm3,
    t5_adafactor,
)
from ..combinators import Format, Labels, Rounding
from ..engine import EngineOption
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer


class GaLoreAdamW(AliasOptimizer, make=galore_adamw):
    """GaLore: AdamW whose moments are those of gradients projected by `low_rank`, with SVD.

    See `galore_adamw`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, rank: int = 128, update_gap: int = 200,
        scale: Scalar = 0.25, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class GaLoreAdafactor(AliasOptimizer, make=galore_adafactor):
    """GaLore with Adafactor: factored second moments of gradients projected by `low_rank`.

    See `galore_adafactor`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, eps: Scalar = 1e-30,
        clip_threshold: Scalar = 1.0, decay_rate: Scalar = -0.8, weight_decay: Scalar = 0.0,
        rank: int = 128, update_gap: int = 200, scale: Scalar = 0.25, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class APOLLOAdamW(AliasOptimizer, make=apollo_adamw):
    """APOLLO: gradients, scaled as AdamW of a random low-rank projection would scale them.

    See `apollo_adamw`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, rank: int = 256, update_gap: int = 200,
        scale_factor: Scalar = 1.0, scale_by_tensor: bool = False, max_growth: Scalar = 1.01,
        seed: int = 0, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class FiraAdamW(AliasOptimizer, make=fira_adamw):
    """Fira: `galore_adamw`, plus what the projections leave out; see `fira_adamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, rank: int = 128, update_gap: int = 200,
        scale: Scalar = 1.0, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class CAME(AliasOptimizer, make=came):
    """CAME: `scale_by_came`, with decoupled weight decay; see `came`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0002,
        betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999),
        eps: tuple[Scalar, Scalar] = (1e-30, 1e-16), weight_decay: Scalar = 0.0,
        clip_threshold: Scalar = 1.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamMini(AliasOptimizer, make=adam_mini):
    """Adam-mini: AdamW with one second moment for each head, row or tensor; see `adam_mini`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *, n_heads: int | None = None,
        n_kv_heads: int | None = None, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SM3(AliasOptimizer, make=sm3):
    """SM3: `scale_by_sm3`, with L2 regularization; see `sm3`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.1, momentum: Scalar = 0.9, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0, *, beta2: Scalar | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class T5Adafactor(AliasOptimizer, make=t5_adafactor):
    """Adafactor of T5, as in Transformers and fairseq: `adafactor` with other end and epsilons.

    See `t5_adafactor`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, eps: tuple[Scalar, Scalar] = (1e-30, 0.001),
        clip_threshold: Scalar = 1.0, decay_rate: Scalar = -0.8, beta1: Scalar | None = None,
        weight_decay: Scalar = 0.0, scale_parameter: bool = True, relative_step: bool = True,
        warmup_init: bool = False, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RowwiseAdagrad(AliasOptimizer, make=rowwise_adagrad):
    """Row-wise Adagrad, for embeddings: `scale_by_rowwise_adagrad`, with a learning rate.

    See `rowwise_adagrad`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, eps: Scalar = 1e-8,
        initial_accumulator_value: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LazyAdam(AliasOptimizer, make=lazy_adam):
    """Lazy Adam, for embeddings: `scale_by_lazy_adam`, which leaves rows without gradient alone.

    See `lazy_adam`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
