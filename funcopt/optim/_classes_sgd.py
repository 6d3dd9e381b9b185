"""The classes of SGD's relatives, and of methods by signs, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    aggmo,
    lars,
    lion,
    qhm,
    sgdp,
    sgdw,
    sign_sgd,
    signum,
    tiger,
)
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer


class LARS(AliasOptimizer, make=lars):
    """LARS: L2 regularization, `scale_by_trust_ratio`, the learning rate, then momentum.

    See `lars`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0,
        trust_coefficient: Scalar = 0.001, eps: Scalar = 0.0, nesterov: bool = False, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Lion(AliasOptimizer, make=lion):
    """Lion: `scale_by_lion`, with decoupled weight decay; see `lion`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.9, 0.99),
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SGDW(AliasOptimizer, make=sgdw):
    """SGDW: `trace` of the gradients, with decoupled weight decay; see `sgdw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.0, dampening: Scalar = 0.0,
        weight_decay: Scalar = 0.0, nesterov: bool = False, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Signum(AliasOptimizer, make=signum):
    """Signum: the sign of the `ema` of the gradient, with decoupled weight decay; see `signum`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.9,
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SignSGD(AliasOptimizer, make=sign_sgd):
    """SignSGD: `scale_by_sign`, with decoupled weight decay; see `sign_sgd`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, weight_decay: Scalar = 0.0, *,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class QHM(AliasOptimizer, make=qhm):
    """QHM: `scale_by_qhm`, with weight decay in the gradient or decoupled; see `qhm`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.999, nu: Scalar = 0.7,
        weight_decay: Scalar = 0.0, *, decoupled_weight_decay: bool = False,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SGDP(AliasOptimizer, make=sgdp):
    """SGDP: `scale_by_sgdp`, SGD that does not make scale-invariant weights larger; see `sgdp`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.0, dampening: Scalar = 0.0,
        weight_decay: Scalar = 0.0, nesterov: bool = False, eps: Scalar = 1e-8, delta: Scalar = 0.1,
        wd_ratio: Scalar = 0.1, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AggMo(AliasOptimizer, make=aggmo):
    """AggMo: the mean of several momenta, `trace` in a `weighted_sum`, with L2 regularization.

    See `aggmo`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, ...] = (0.0, 0.9, 0.99),
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Tiger(AliasOptimizer, make=tiger):
    """Tiger: `signum` with other defaults; see `tiger`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, beta: Scalar = 0.965,
        weight_decay: Scalar = 0.01, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
