"""PSGD-Kron."""

from typing import Literal

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    clip_by_block_rms,
    scale_by_kron,
    scale_by_learning_rate,
)
from ..typing import Scalar


@explained
def kron(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    update_probability: Scalar | None = None,
    max_size_triangular: int = 8192,
    min_ndim_triangular: int = 2,
    memory_save_mode: Literal["one_diag", "smart_one_diag", "all_diag"] | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: Scalar = 0.1,
    *,
    seed: Scalar = 0,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """PSGD-Kron: `scale_by_kron`, with bounded updates and decoupled weight decay.

    An update has a root mean square of at most 1.1, tensor by tensor. A third of AdamW's learning
    rate is a start. Weight decay is for all parameters, where the authors' code leaves out vectors:
    `param_groups_weight_decay` does so too. The momentum is stored in `state_dtype`, else in the
    dtype of the parameter; the preconditioner in at least float32.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        update_probability: The share of updates in which the preconditioner is fitted, in [0, 1];
            `None` for 1 that decays to 0.03 after 500 updates.
        max_size_triangular: The largest dimension that has a matrix, and not a vector.
        min_ndim_triangular: The least number of dimensions of a tensor whose dimensions have one.
        memory_save_mode: "one_diag" for a vector for the largest dimension; "smart_one_diag" for
            that where it is larger than all others; "all_diag" for vectors alone.
        momentum_into_precond_update: Fit to the momentum, instead of to the gradient.
        precond_lr: The learning rate of the preconditioner; positive.
        seed: Seed of the probes: an integer, not negative.
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Li, "Stochastic Hessian Fittings with Lie Groups", 2024. https://arxiv.org/abs/2402.11858;
        defaults are those of `Kron` of `pytorch_optimizer`.
    """
    scaling = scale_by_kron(
        momentum,
        update_probability,
        precond_lr=precond_lr,
        max_size_triangular=max_size_triangular,
        min_ndim_triangular=min_ndim_triangular,
        memory_save_mode=memory_save_mode,
        momentum_into_precond_update=momentum_into_precond_update,
        seed=seed,
        state_dtype=state_dtype,
    )
    return chain(
        scaling,
        clip_by_block_rms(1.1),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )
