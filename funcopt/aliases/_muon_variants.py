"""Relatives of Muon for the matrices of hidden layers, with AdamW for all other parameters."""

from typing import Literal

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import Labels
from ..transforms import (
    orthogonalize,
    scale_by_muon,
    scale_by_namo,
    scale_by_normuon,
    scale_by_sign,
    trace,
)
from ..typing import Coefficients, Normalization, Ratio, Scalar
from ._muon import beside_adamw


@explained
def normuon(
    lr: Scalar = 2e-2,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.95,
    beta2: Scalar = 0.95,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: Ratio | None = None,
    *,
    per: Literal["row", "longer_side", "entry"] = "row",
    moment_eps: Scalar = 1e-10,
    match_rms_adamw: bool = False,
    dims: Literal["batch", "flatten"] | None = None,
    ns_dtype: torch.dtype | None = torch.bfloat16,
    normalization: Normalization = "clamp",
    safety_factor: Scalar = 1.0,
    block_sizes: int | tuple[int, ...] | None = None,
    ns_method: Literal["standard", "gram"] = "standard",
    adamw_lr: Scalar = 1e-3,
    adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    adamw_eps: Scalar = 1e-8,
    adamw_weight_decay: Scalar = 1e-2,
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """NorMuon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    `scale_by_muon`, then `scale_by_normuon`, which gives all rows of an update about the same size,
    and decoupled weight decay; the labels are those of `muon`. Defaults are those of the official
    code, whose norm is floored by another epsilon: ``normalization="add"``.

    Args:
        lr: The learning rate of NorMuon.
        weight_decay: The weight decay of NorMuon; not negative.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        beta2: Decay rate of the second moment of the orthogonalized update, in [0, 1).
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the Newton-Schulz iteration, as in `orthogonalize`.
        eps: Lower bound of the norm in the denominator.
        ns_steps: The number of iterations.
        adjust_lr_fn: How the update depends on the shape.
        per: What has a second moment, as in `scale_by_normuon`.
        moment_eps: Added to its root; not negative.
        match_rms_adamw: Rescale each update to a root mean square of 0.2, about that of AdamW.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration.
        normalization: How a matrix is divided by its norm.
        safety_factor: A factor of that norm; positive.
        block_sizes: The number of rows of each block of every matrix, or of all blocks.
        ns_method: How iterations are made, one by one or two at once with fewer products.
        adamw_lr: The learning rate of AdamW.
        adamw_betas: Its decay rates.
        adamw_eps: Its epsilon.
        adamw_weight_decay: Its weight decay.
        labels: Which parameters are "muon" and which "adamw", as in `muon`.
        state_dtype: Storage dtype of the moments of both, else that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or a name is unknown.
        LeafError: If a parameter that is labeled "muon" is not made of matrices, or of such blocks.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Li et al., "NorMuon: Making Muon more efficient and scalable", 2025.
        https://arxiv.org/abs/2510.05491
    """
    stages = [
        scale_by_muon(
            momentum,
            nesterov=nesterov,
            ns_coefficients=ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            dims=dims,
            ns_dtype=ns_dtype,
            state_dtype=state_dtype,
            normalization=normalization,
            safety_factor=safety_factor,
            block_sizes=block_sizes,
            ns_method=ns_method,
        ),
        scale_by_normuon(
            beta2,
            moment_eps=moment_eps,
            per=per,
            match_rms_adamw=match_rms_adamw,
            dims=dims,
            state_dtype=state_dtype,
        ),
    ]
    options = (adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay)
    return beside_adamw(stages, lr, weight_decay, options, state_dtype, dims, labels)


@explained
def adamuon(
    lr: Scalar = 2e-2,
    weight_decay: Scalar = 1e-2,
    momentum: Scalar = 0.95,
    beta2: Scalar | None = None,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-7,
    ns_steps: int = 5,
    *,
    sign: bool = True,
    moment_eps: Scalar = 1e-8,
    dims: Literal["batch", "flatten"] | None = None,
    ns_dtype: torch.dtype | None = torch.bfloat16,
    normalization: Normalization = "clamp",
    safety_factor: Scalar = 1.0,
    block_sizes: int | tuple[int, ...] | None = None,
    ns_method: Literal["standard", "gram"] = "standard",
    adamw_lr: Scalar = 1e-3,
    adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    adamw_eps: Scalar = 1e-8,
    adamw_weight_decay: Scalar = 1e-2,
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdaMuon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    The momentum, of which `orthogonalize` gets the signs, then `scale_by_normuon` entry by entry,
    which rescales the update to a root mean square of 0.2, so that learning rates of AdamW fit, and
    decoupled weight decay. The labels are those of `muon`, and the defaults those of the official
    code. Ports leave out the signs: ``sign=False``.

    Args:
        lr: The learning rate of AdaMuon.
        weight_decay: The weight decay of AdaMuon; not negative.
        momentum: Decay rate of the sum of gradients.
        beta2: Decay rate of the second moment of the orthogonalized update, in [0, 1); `None` is
            `momentum`.
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the Newton-Schulz iteration, as in `orthogonalize`.
        eps: Lower bound of the norm in the denominator.
        ns_steps: The number of iterations.
        sign: Orthogonalize the signs of the momentum.
        moment_eps: Added to the root of the second moment; not negative.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration.
        normalization: How a matrix is divided by its norm.
        safety_factor: A factor of that norm; positive.
        block_sizes: The number of rows of each block of every matrix, or of all blocks.
        ns_method: How iterations are made, one by one or two at once with fewer products.
        adamw_lr: The learning rate of AdamW.
        adamw_betas: Its decay rates.
        adamw_eps: Its epsilon.
        adamw_weight_decay: Its weight decay.
        labels: Which parameters are "muon" and which "adamw", as in `muon`.
        state_dtype: Storage dtype of the moments of both, else that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or a name is unknown.
        LeafError: If a parameter that is labeled "muon" is not made of matrices, or of such blocks.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Si et al., "AdaMuon: Adaptive Muon Optimizer", 2025. https://arxiv.org/abs/2507.11005
    """
    checks.switch("adamuon", "sign", sign)
    stages = [
        trace(momentum, nesterov=nesterov, state_dtype=state_dtype),
        *([scale_by_sign()] if sign else []),
        orthogonalize(
            ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn="unscaled",
            dims=dims,
            ns_dtype=ns_dtype,
            normalization=normalization,
            safety_factor=safety_factor,
            block_sizes=block_sizes,
            ns_method=ns_method,
        ),
        scale_by_normuon(
            momentum if beta2 is None else beta2,
            moment_eps=moment_eps,
            per="entry",
            match_rms_adamw=True,
            dims=dims,
            state_dtype=state_dtype,
        ),
    ]
    options = (adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay)
    return beside_adamw(stages, lr, weight_decay, options, state_dtype, dims, labels)


@explained
def namo(
    lr: Scalar = 1e-2,
    weight_decay: Scalar = 0.1,
    momentum: Scalar = 0.95,
    beta2: Scalar = 0.99,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: Ratio | None = "match_rms_adamw",
    *,
    moment_eps: Scalar = 1e-8,
    correct_bias: bool = True,
    dims: Literal["batch", "flatten"] | None = None,
    ns_dtype: torch.dtype | None = torch.bfloat16,
    normalization: Normalization = "clamp",
    safety_factor: Scalar = 1.0,
    block_sizes: int | tuple[int, ...] | None = None,
    ns_method: Literal["standard", "gram"] = "standard",
    adamw_lr: Scalar = 1e-3,
    adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    adamw_eps: Scalar = 1e-8,
    adamw_weight_decay: Scalar = 1e-2,
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """NAMO for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    `scale_by_namo`, then `orthogonalize` with the norm of what it gets, so that a step is the
    smaller the noisier the gradients are, and decoupled weight decay; the labels are those of
    `muon`. Defaults are those of the official code. Its decay is smaller too where gradients are
    noisy, and its learning rate is at most 1, which is left out here.

    Args:
        lr: The learning rate of NAMO.
        weight_decay: The weight decay of NAMO; not negative.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        beta2: Decay rate of the EMA of its squared norm, in [0, 1).
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the Newton-Schulz iteration, as in `orthogonalize`.
        eps: Lower bound of the norm in the denominator.
        ns_steps: The number of iterations.
        adjust_lr_fn: How the update depends on the shape.
        moment_eps: Added to the root of the second moment, in units of the gradient's norm; not
            negative.
        correct_bias: Apply the bias correction.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration.
        normalization: How a matrix is divided by its norm.
        safety_factor: A factor of that norm; positive.
        block_sizes: The number of rows of each block of every matrix, or of all blocks.
        ns_method: How iterations are made, one by one or two at once with fewer products.
        adamw_lr: The learning rate of AdamW.
        adamw_betas: Its decay rates.
        adamw_eps: Its epsilon.
        adamw_weight_decay: Its weight decay.
        labels: Which parameters are "muon" and which "adamw", as in `muon`.
        state_dtype: Storage dtype of the moments of both, else that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or a name is unknown.
        LeafError: If a parameter that is labeled "muon" is not made of matrices, or of such blocks.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Zhang et al., "Adam Improves Muon: Adaptive Moment Estimation with Orthogonalized Momentum",
        2026. https://arxiv.org/abs/2602.17080
    """
    stages = [
        scale_by_namo(
            (momentum, beta2),
            moment_eps=moment_eps,
            nesterov=nesterov,
            correct_bias=correct_bias,
            dims=dims,
            state_dtype=state_dtype,
        ),
        orthogonalize(
            ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            dims=dims,
            ns_dtype=ns_dtype,
            normalization=normalization,
            safety_factor=safety_factor,
            block_sizes=block_sizes,
            ns_method=ns_method,
            magnitude="norm",
        ),
    ]
    options = (adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay)
    return beside_adamw(stages, lr, weight_decay, options, state_dtype, dims, labels)
