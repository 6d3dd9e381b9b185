"""The classes of `torch.optim` and of others, made of aliases: same arguments and steps.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off

import math
from typing import Literal

import torch

from ..aliases import (
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    dadapt_adamw,
    lamb,
    lars,
    lion,
    mars,
    muon,
    nadam,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    shampoo,
    soap,
    yogi,
)
from ..combinators import Labels
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdamW(AliasOptimizer, make=adamw, like=torch.optim.AdamW):
    """AdamW: `scale_by_adam`, with decoupled weight decay; see `adamw`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.01, amsgrad: bool = False, *,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        state_dtype: torch.dtype | None = None, max_grad_norm: Scalar | None = None,
        ema: Scalar | None = None, accumulate: int | None = None, offload: bool = False,
        engine: EngineOption = "auto",
    ) -> None: ...


class RMSprop(AliasOptimizer, make=rmsprop, like=torch.optim.RMSprop):
    """RMSprop: `scale_by_rms`, then momentum, with L2 regularization; see `rmsprop`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, alpha: Scalar = 0.99, eps: Scalar = 1e-8,
        weight_decay: Scalar = 0, momentum: Scalar = 0, centered: bool = False,
        capturable: bool = False, foreach: bool | None = None, maximize: bool = False,
        differentiable: bool = False, *, state_dtype: torch.dtype | None = None,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adagrad(AliasOptimizer, make=adagrad, like=torch.optim.Adagrad):
    """Adagrad: `scale_by_adagrad`, with L2 regularization; see `adagrad`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, lr_decay: Scalar = 0, weight_decay: Scalar = 0,
        initial_accumulator_value: Scalar = 0, eps: Scalar = 1e-10, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, fused: bool | None = None,
        state_dtype: torch.dtype | None = None, capturable: bool = False,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adadelta(AliasOptimizer, make=adadelta, like=torch.optim.Adadelta):
    """Adadelta: `scale_by_adadelta`, with L2 regularization; see `adadelta`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1.0, rho: Scalar = 0.9, eps: Scalar = 1e-6,
        weight_decay: Scalar = 0, foreach: bool | None = None, *, capturable: bool = False,
        maximize: bool = False, differentiable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Adamax(AliasOptimizer, make=adamax, like=torch.optim.Adamax):
    """Adamax: `scale_by_adamax`, with L2 regularization; see `adamax`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.002, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, capturable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class RAdam(AliasOptimizer, make=radam, like=torch.optim.RAdam):
    """RAdam: `scale_by_radam`, with L2 regularization or decoupled weight decay; see `radam`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0, decoupled_weight_decay: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
        differentiable: bool = False, state_dtype: torch.dtype | None = None,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Rprop(AliasOptimizer, make=rprop, like=torch.optim.Rprop):
    """Rprop: `scale_by_rprop`, negated; see `rprop`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, etas: tuple[Scalar, Scalar] = (0.5, 1.2),
        step_sizes: tuple[Scalar, Scalar] = (1e-6, 50), *, capturable: bool = False,
        foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
        state_dtype: torch.dtype | None = None, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LBFGS(AliasOptimizer, make=of_torch, like=torch.optim.LBFGS):
    """L-BFGS, as `lbfgs` has it, under the names of `torch.optim.LBFGS`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: Scalar = 1e-7, tolerance_change: Scalar = 1e-9, history_size: int = 100,
        line_search_fn: str | LineSearch | None = None, *, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class LAMB(AliasOptimizer, make=lamb):
    """LAMB: `scale_by_adam` and weight decay, then `scale_by_trust_ratio`; see `lamb`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Lion(AliasOptimizer, make=lion):
    """Lion: `scale_by_lion`, with decoupled weight decay; see `lion`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.9, 0.99),
        weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class MARS(AliasOptimizer, make=mars):
    """MARS-AdamW: `add_mars_correction`, then AdamW; see `mars`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.003, betas: tuple[Scalar, Scalar] = (0.95, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, amsgrad: bool = False,
        gamma: Scalar = 0.025, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdaBelief(AliasOptimizer, make=adabelief):
    """AdaBelief: `scale_by_belief`, with decoupled weight decay; see `adabelief`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-16, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Yogi(AliasOptimizer, make=yogi):
    """Yogi: `scale_by_yogi`, with decoupled weight decay; see `yogi`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 0.001, weight_decay: Scalar = 0.0, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Muon(AliasOptimizer, make=muon):
    """Muon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    See `muon`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, weight_decay: Scalar = 0.1,
        momentum: Scalar = 0.95, nesterov: bool = True,
        ns_coefficients: tuple[Scalar, Scalar, Scalar] = (3.4445, -4.775, 2.0315),
        eps: Scalar = 1e-7, ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None, *,
        dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, adamw_lr: Scalar = 0.001,
        adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999), adamw_eps: Scalar = 1e-8,
        adamw_weight_decay: Scalar = 0.01, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SOAP(AliasOptimizer, make=soap):
    """SOAP: `scale_by_soap`, with decoupled weight decay; see `soap`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.003, betas: tuple[Scalar, Scalar] = (0.95, 0.95),
        shampoo_beta: Scalar | None = None, eps: Scalar = 1e-8, weight_decay: Scalar = 0.01,
        precondition_frequency: int = 10, max_precond_dim: int = 10000, merge_dims: bool = False,
        precondition_1d: bool = False, normalize_grads: bool = False, correct_bias: bool = True, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Shampoo(AliasOptimizer, make=shampoo):
    """Shampoo: `scale_by_shampoo`, then weight decay, then momentum; see `shampoo`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.1, momentum: Scalar = 0.0, weight_decay: Scalar = 0.0,
        eps: Scalar = 0.0001, beta2: Scalar | None = None, precondition_frequency: int = 1,
        max_precond_dim: int = 10000, merge_dims: bool = False, precondition_1d: bool = False,
        graft: bool = False, nesterov: bool = False, *, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
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
        accumulate: int | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
