"""Preconditioners with a matrix for every dimension."""

from typing import Literal

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_learning_rate,
    scale_by_shampoo,
    scale_by_soap,
    trace,
)
from ..typing import Scalar


@explained
def soap(
    lr: Scalar = 3e-3,
    betas: tuple[Scalar, Scalar] = (0.95, 0.95),
    shampoo_beta: Scalar | None = None,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    merge_dims: bool = False,
    precondition_1d: bool = False,
    normalize_grads: bool = False,
    correct_bias: bool = True,
    *,
    correction: Literal["kl"] | None = None,
    block_size: int | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """SOAP: `scale_by_soap`, with decoupled weight decay.

    Arguments and defaults are those of the official code, with `None` for its -1, and without
    weight decay so are the steps. The decay is that of `adamw`: ``lr weight_decay p``, of p before
    the step, in the first update too, which is otherwise zero. (The official code skips it in the
    first, and decays p after the step.) Both moments are stored in `state_dtype`, else in the
    dtype of the parameter; the matrices in at least float32.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        shampoo_beta: Decay rate of the matrices, in [0, 1); `None` is the second of
            `betas`.
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        precondition_frequency: Updates from one factorization to the next.
        max_precond_dim: The largest dimension that has a matrix.
        merge_dims: Merge neighboring dimensions, while their product is at most
            `max_precond_dim`.
        precondition_1d: Precondition vectors by a matrix too.
        normalize_grads: Rescale each update to a root mean square of 1.
        correct_bias: Apply Adam's bias correction.
        correction: "kl" for KL-SOAP: the matrices of `scale_by_soap` with this correction.
        block_size: Cut larger dimensions into parts of this size, with matrices of their own.
        state_dtype: Storage dtype of both moments; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is out of
            range.

    References:
        Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024.
        https://arxiv.org/abs/2409.11321
    """
    scaling = scale_by_soap(
        betas,
        shampoo_beta=shampoo_beta,
        eps=eps,
        precondition_frequency=precondition_frequency,
        max_precond_dim=max_precond_dim,
        merge_dims=merge_dims,
        precondition_1d=precondition_1d,
        normalize_grads=normalize_grads,
        correct_bias=correct_bias,
        state_dtype=state_dtype,
        correction=correction,
        block_size=block_size,
    )
    return chain(scaling, add_decayed_weights(weight_decay), scale_by_learning_rate(lr))


@explained
def shampoo(
    lr: Scalar = 1e-1,
    momentum: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    eps: Scalar = 1e-4,
    beta2: Scalar | None = None,
    precondition_frequency: int = 1,
    max_precond_dim: int = 10000,
    merge_dims: bool = False,
    precondition_1d: bool = False,
    graft: bool = False,
    nesterov: bool = False,
    *,
    block_size: int | None = None,
    start_preconditioning_step: int = 1,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Shampoo: `scale_by_shampoo`, then weight decay, then momentum.

    Without options it is Algorithm 1 of the paper, for tensors Algorithm 2, but vectors are left
    as they are unless `precondition_1d`. The momentum is stored in `state_dtype`, else in the
    dtype of the parameter; the matrices in at least float32.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        weight_decay: Weight decay, added after preconditioning; not negative.
        eps: Added to the eigenvalues, in units of the gradient squared; positive.
        beta2: Decay rate of the matrices, in [0, 1); `None` for sums.
        precondition_frequency: Updates from one factorization to the next.
        max_precond_dim: The largest dimension that has a matrix.
        merge_dims: Merge neighboring dimensions, while their product is at most
            `max_precond_dim`.
        precondition_1d: Precondition vectors by a matrix too.
        graft: Give each update the norm of the gradient.
        nesterov: Use Nesterov momentum.
        block_size: Cut larger dimensions into parts of this size, with matrices of their own.
        start_preconditioning_step: The first update by the matrices; before it, the gradient is
            left as it is.
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is out of
            range.

    References:
        Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018.
        https://arxiv.org/abs/1802.09568
    """
    scaling = scale_by_shampoo(
        beta2,
        eps=eps,
        precondition_frequency=precondition_frequency,
        max_precond_dim=max_precond_dim,
        merge_dims=merge_dims,
        precondition_1d=precondition_1d,
        graft=graft,
        block_size=block_size,
        start_preconditioning_step=start_preconditioning_step,
        state_dtype=state_dtype,
    )
    return chain(
        scaling,
        add_decayed_weights(weight_decay),
        trace(momentum, nesterov=nesterov, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )
