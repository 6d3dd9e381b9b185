"""The classes of `torch.optim`: same names, arguments and steps.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
)
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..transforms import LineSearch
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer
from ._lbfgs import of_torch


class SGD(AliasOptimizer, make=sgd, like=torch.optim.SGD):
    """SGD: `trace` of the gradients, with L2 regularization; see `sgd`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0, dampening: Scalar = 0,
        weight_decay: Scalar = 0, nesterov: bool = False, *, maximize: bool = False,
        foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None,
        state_dtype: torch.dtype | None = None, capturable: bool = False,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adam(AliasOptimizer, make=adam, like=torch.optim.Adam):
    """Adam: `scale_by_adam`, with L2 regularization; see `adam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, amsgrad: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        decoupled_weight_decay: bool = False, state_dtype: torch.dtype | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamW(AliasOptimizer, make=adamw, like=torch.optim.AdamW):
    """AdamW: `scale_by_adam`, with decoupled weight decay; see `adamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.01, amsgrad: bool = False, *,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        state_dtype: torch.dtype | None = None, max_grad_norm: Scalar | None = None,
        ema: Scalar | None = None, accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RMSprop(AliasOptimizer, make=rmsprop, like=torch.optim.RMSprop):
    """RMSprop: `scale_by_rms`, then momentum, with L2 regularization; see `rmsprop`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, alpha: Scalar = 0.99, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0, momentum: Scalar = 0, centered: bool = False,
        capturable: bool = False, foreach: bool | None = None, maximize: bool = False,
        differentiable: bool = False, *, state_dtype: torch.dtype | None = None,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adagrad(AliasOptimizer, make=adagrad, like=torch.optim.Adagrad):
    """Adagrad: `scale_by_adagrad`, with L2 regularization; see `adagrad`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, lr_decay: Scalar = 0, weight_decay: Scalar = 0,
        initial_accumulator_value: Scalar = 0, eps: Scalar = 1e-10, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, fused: bool | None = None,
        state_dtype: torch.dtype | None = None, capturable: bool = False,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adadelta(AliasOptimizer, make=adadelta, like=torch.optim.Adadelta):
    """Adadelta: `scale_by_adadelta`, with L2 regularization; see `adadelta`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, rho: Scalar = 0.9, eps: Scalar = 1e-6,
        weight_decay: Scalar = 0, foreach: bool | None = None, *, capturable: bool = False,
        maximize: bool = False, differentiable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adamax(AliasOptimizer, make=adamax, like=torch.optim.Adamax):
    """Adamax: `scale_by_adamax`, with L2 regularization; see `adamax`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.002, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, capturable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class NAdam(AliasOptimizer, make=nadam, like=torch.optim.NAdam):
    """NAdam: `scale_by_nadam`, with L2 regularization or decoupled weight decay; see `nadam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.002, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, momentum_decay: Scalar = 0.004,
        decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
        maximize: bool = False, capturable: bool = False, differentiable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RAdam(AliasOptimizer, make=radam, like=torch.optim.RAdam):
    """RAdam: `scale_by_radam`, with L2 regularization or decoupled weight decay; see `radam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, decoupled_weight_decay: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
        differentiable: bool = False, state_dtype: torch.dtype | None = None,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adafactor(AliasOptimizer, make=adafactor, like=torch.optim.Adafactor):
    """Adafactor: `scale_by_factored_rms`, clipped, with a relative, decaying learning rate.

    See `adafactor`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, beta2_decay: Scalar = -0.8,
        eps: tuple[Scalar | None, Scalar] = (None, 0.001), d: Scalar = 1.0,
        weight_decay: Scalar = 0.0, *, foreach: bool | None = None, maximize: bool = False,
        state_dtype: torch.dtype | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class ASGD(AliasOptimizer, make=asgd, like=torch.optim.ASGD):
    """Averaged SGD: `scale_by_asgd` with L2 regularization, and `mean_of_params` since step t0.

    See `asgd`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, lambd: Scalar = 0.0001, alpha: Scalar = 0.75,
        t0: Scalar = 1000000.0, weight_decay: Scalar = 0, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False, capturable: bool = False, *,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Rprop(AliasOptimizer, make=rprop, like=torch.optim.Rprop):
    """Rprop: `scale_by_rprop`, negated; see `rprop`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, etas: tuple[Scalar, Scalar] = (0.5, 1.2),
        step_sizes: tuple[Scalar, Scalar] = (1e-6, 50), *, capturable: bool = False,
        foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LBFGS(AliasOptimizer, make=of_torch, like=torch.optim.LBFGS):
    """L-BFGS, as `lbfgs` has it, under the names of `torch.optim.LBFGS`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: Scalar = 1e-7, tolerance_change: Scalar = 1e-9, history_size: int = 100,
        line_search_fn: str | LineSearch | None = None, *, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
