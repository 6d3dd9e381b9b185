"""The classes of methods that Optax has, and PyTorch has not, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off


import torch

from ..aliases import (
    acprop,
    fromage,
    madgrad,
    novograd,
    optimistic_adam,
    optimistic_gradient_descent,
    rmsprop_tf,
    simplified_ademamix,
)
from ..combinators import Format, Rounding
from ..engine import EngineOption
from ..typing import ParamsT, Scalar
from ._alias import AliasOptimizer


class NovoGrad(AliasOptimizer, make=novograd):
    """NovoGrad: `scale_by_novograd`, with its weight decay inside of the momentum.

    See `novograd`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.25),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, *, grad_averaging: bool = False,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class MADGRAD(AliasOptimizer, make=madgrad):
    """MADGRAD: `scale_by_madgrad`, negated, with L2 regularization; see `madgrad`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, momentum: Scalar = 0.9,
        weight_decay: Scalar = 0.0, eps: Scalar = 1e-6, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class ACProp(AliasOptimizer, make=acprop):
    """ACProp: `scale_by_acprop`, with decoupled weight decay; see `acprop`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-16, weight_decay: Scalar = 0.0, *, eps_root: Scalar = 1e-16,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RMSpropTF(AliasOptimizer, make=rmsprop_tf):
    """RMSprop as TensorFlow has it: the second moment begins at 1, and eps is inside the root.

    See `rmsprop_tf`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, alpha: Scalar = 0.9, eps: Scalar = 1e-10,
        weight_decay: Scalar = 0.0, momentum: Scalar = 0.0, centered: bool = False, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SimplifiedAdEMAMix(AliasOptimizer, make=simplified_ademamix):
    """Simplified AdEMAMix: `scale_by_simplified_ademamix`, with decoupled weight decay.

    See `simplified_ademamix`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.99, 0.95),
        alpha: Scalar = 0.0, eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class OptimisticGradientDescent(AliasOptimizer, make=optimistic_gradient_descent):
    """Optimistic gradient descent: `scale_by_optimistic_gradient`, with a learning rate.

    See `optimistic_gradient_descent`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, alpha: Scalar = 1.0, beta: Scalar = 1.0, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class OptimisticAdam(AliasOptimizer, make=optimistic_adam):
    """Optimistic Adam: `scale_by_optimistic_gradient` of the updates of `scale_by_adam`.

    See `optimistic_adam`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, alpha: Scalar = 1.0, beta: Scalar = 1.0, *, nesterov: bool = True,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Fromage(AliasOptimizer, make=fromage):
    """Fromage: `scale_by_trust_ratio`, then `shrink_by_learning_rate`, negated; see `fromage`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, min_norm: Scalar = 1e-6, *,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
