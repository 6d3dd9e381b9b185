"""The classes of Adam's relatives, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    adabelief,
    lamb,
    mars,
    yogi,
)
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
        accumulate: int | None = None, engine: EngineOption = "auto",
    ) -> None: ...


class Yogi(AliasOptimizer, make=yogi):
    """Yogi: `scale_by_yogi`, with decoupled weight decay; see `yogi`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 0.001, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, engine: EngineOption = "auto",
    ) -> None: ...


class MARS(AliasOptimizer, make=mars):
    """MARS-AdamW: `add_mars_correction`, then AdamW; see `mars`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.003, betas: tuple[Scalar, Scalar] = (0.95, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, amsgrad: bool = False,
        gamma: Scalar = 0.025, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, engine: EngineOption = "auto",
    ) -> None: ...


class LAMB(AliasOptimizer, make=lamb):
    """LAMB: `scale_by_adam` and weight decay, then `scale_by_trust_ratio`; see `lamb`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, engine: EngineOption = "auto",
    ) -> None: ...
