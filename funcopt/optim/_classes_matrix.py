"""The classes of matrix preconditioners, made of aliases.

Written by `scripts/optim_classes.py`. The bodies of `__init__` are declarations, never run.
"""

# fmt: off

from typing import Literal

import torch

from ..aliases import (
    adamuon,
    distributed_shampoo,
    kron,
    muon,
    namo,
    normuon,
    scion,
    shampoo,
    soap,
    sophia,
)
from ..combinators import Format, Labels, Rounding
from ..engine import EngineOption
from ..typing import Coefficients, Normalization, ParamsT, Ratio, Scalar
from ._alias import AliasOptimizer


class Muon(AliasOptimizer, make=muon):
    """Muon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    See `muon`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, weight_decay: Scalar = 0.1,
        momentum: Scalar = 0.95, nesterov: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315), eps: Scalar = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: Ratio | None = None, *,
        dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, normalization: Normalization = "clamp",
        safety_factor: Scalar = 1.0, block_sizes: int | tuple[int, ...] | None = None,
        ns_method: Literal["standard", "gram"] = "standard", adamw_lr: Scalar = 0.001,
        adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999), adamw_eps: Scalar = 1e-8,
        adamw_weight_decay: Scalar = 0.01, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class NorMuon(AliasOptimizer, make=normuon):
    """NorMuon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    See `normuon`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.02, weight_decay: Scalar = 0.0,
        momentum: Scalar = 0.95, beta2: Scalar = 0.95, nesterov: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315), eps: Scalar = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: Ratio | None = None, *,
        per: Literal["row", "longer_side", "entry"] = "row", moment_eps: Scalar = 1e-10,
        match_rms_adamw: bool = False, dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, normalization: Normalization = "clamp",
        safety_factor: Scalar = 1.0, block_sizes: int | tuple[int, ...] | None = None,
        ns_method: Literal["standard", "gram"] = "standard", adamw_lr: Scalar = 0.001,
        adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999), adamw_eps: Scalar = 1e-8,
        adamw_weight_decay: Scalar = 0.01, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class AdaMuon(AliasOptimizer, make=adamuon):
    """AdaMuon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    See `adamuon`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.02, weight_decay: Scalar = 0.01,
        momentum: Scalar = 0.95, beta2: Scalar | None = None, nesterov: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315), eps: Scalar = 1e-7,
        ns_steps: int = 5, *, sign: bool = True, moment_eps: Scalar = 1e-8,
        dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, normalization: Normalization = "clamp",
        safety_factor: Scalar = 1.0, block_sizes: int | tuple[int, ...] | None = None,
        ns_method: Literal["standard", "gram"] = "standard", adamw_lr: Scalar = 0.001,
        adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999), adamw_eps: Scalar = 1e-8,
        adamw_weight_decay: Scalar = 0.01, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class NAMO(AliasOptimizer, make=namo):
    """NAMO for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    See `namo`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, weight_decay: Scalar = 0.1,
        momentum: Scalar = 0.95, beta2: Scalar = 0.99, nesterov: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315), eps: Scalar = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: Ratio | None = "match_rms_adamw", *,
        moment_eps: Scalar = 1e-8, correct_bias: bool = True,
        dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, normalization: Normalization = "clamp",
        safety_factor: Scalar = 1.0, block_sizes: int | tuple[int, ...] | None = None,
        ns_method: Literal["standard", "gram"] = "standard", adamw_lr: Scalar = 0.001,
        adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999), adamw_eps: Scalar = 1e-8,
        adamw_weight_decay: Scalar = 0.01, labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Scion(AliasOptimizer, make=scion):
    """Scion: steps towards the lowest point of a ball, of the norm that fits the layer.

    See `scion`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.9, radius: Scalar = 50.0,
        other_radius: Scalar = 3000.0, vector_radius: Scalar = 1.0, constrained: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315), eps: Scalar = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: Ratio | None = "rms_to_rms", *,
        other_norm: Literal["sign", "column", "row", "embedding"] = "sign",
        dims: Literal["batch", "flatten"] | None = None,
        ns_dtype: torch.dtype | None = torch.bfloat16, normalization: Normalization = "clamp",
        safety_factor: Scalar = 1.0, block_sizes: int | tuple[int, ...] | None = None,
        ns_method: Literal["standard", "gram"] = "standard", labels: Labels | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class SOAP(AliasOptimizer, make=soap):
    """SOAP: `scale_by_soap`, with decoupled weight decay; see `soap`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.003, betas: tuple[Scalar, Scalar] = (0.95, 0.95),
        shampoo_beta: Scalar | None = None, eps: Scalar = 1e-8, weight_decay: Scalar = 0.01,
        precondition_frequency: int = 10, max_precond_dim: int = 10000, merge_dims: bool = False,
        precondition_1d: bool = False, normalize_grads: bool = False, correct_bias: bool = True, *,
        correction: Literal["kl"] | None = None, block_size: int | None = None,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Sophia(AliasOptimizer, make=sophia):
    """Sophia: `scale_by_sophia`, with decoupled weight decay; see `sophia`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.0001, betas: tuple[Scalar, Scalar] = (0.965, 0.99),
        eps: Scalar = 1e-8, weight_decay: Scalar = 0.0001, gamma: Scalar = 0.01,
        clip_threshold: Scalar = 1.0, debias: bool = True, *,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Shampoo(AliasOptimizer, make=shampoo):
    """Shampoo: `scale_by_shampoo`, then weight decay, then momentum; see `shampoo`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.1, momentum: Scalar = 0.0, weight_decay: Scalar = 0.0,
        eps: Scalar = 0.0001, beta2: Scalar | None = None, precondition_frequency: int = 1,
        max_precond_dim: int = 10000, merge_dims: bool = False, precondition_1d: bool = False,
        graft: bool = False, nesterov: bool = False, *, block_size: int | None = None,
        start_preconditioning_step: int = 1, state_dtype: torch.dtype | None = None,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class DistributedShampoo(AliasOptimizer, make=distributed_shampoo):
    """Distributed Shampoo: averages, in blocks, with the norm of Adam's updates.

    See `distributed_shampoo`.
    """

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.01, betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-12, weight_decay: Scalar = 0.0, block_size: int | None = 1024,
        precondition_frequency: int = 100, start_preconditioning_step: int | None = None,
        grafting: Literal["adam", "sgd"] | None = "adam", grafting_eps: Scalar = 1e-8,
        merge_dims: bool = True, *, state_dtype: torch.dtype | None = None, maximize: bool = False,
        foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
        fused: bool | None = None, max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...


class Kron(AliasOptimizer, make=kron):
    """PSGD-Kron: `scale_by_kron`, with bounded updates and decoupled weight decay; see `kron`."""

    def __init__(
        self, params: ParamsT, lr: Scalar = 0.001, momentum: Scalar = 0.9,
        weight_decay: Scalar = 0.0, update_probability: Scalar | None = None,
        max_size_triangular: int = 8192, min_ndim_triangular: int = 2,
        memory_save_mode: Literal["one_diag", "smart_one_diag", "all_diag"] | None = None,
        momentum_into_precond_update: bool = True, precond_lr: Scalar = 0.1, *, seed: Scalar = 0,
        state_dtype: torch.dtype | None = None, maximize: bool = False, foreach: bool | None = None,
        capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
        max_grad_norm: Scalar | None = None, ema: Scalar | None = None,
        accumulate: int | None = None, quantized: Format | None = None,
        rounding: Rounding | None = None, offload: bool = False, engine: EngineOption = "auto",
    ) -> None: ...
