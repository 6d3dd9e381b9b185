"""Shampoo as the winner of AlgoPerf's first competition has it."""

from typing import Literal

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, graft
from ..transforms import (
    add_decayed_weights,
    ema,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_shampoo,
)
from ..typing import Scalar


@explained
def distributed_shampoo(
    lr: Scalar = 1e-2,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-12,
    weight_decay: Scalar = 0.0,
    block_size: int | None = 1024,
    precondition_frequency: int = 100,
    start_preconditioning_step: int | None = None,
    grafting: Literal["adam", "sgd"] | None = "adam",
    grafting_eps: Scalar = 1e-8,
    merge_dims: bool = True,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Distributed Shampoo: averages, in blocks, with the norm of Adam's updates.

    The direction is that of `scale_by_shampoo` for the average of the gradient, vectors too, and
    the norm that of Adam with the same `betas`, tensor by tensor, or of the average itself. Until
    `start_preconditioning_step`, it is Adam. So a learning rate and a schedule that Adam was tuned
    with are a start.

    Against the authors' class, norms are over a whole tensor, not over each block; merging begins
    with the first dimensions, not with the last. For momentum, put `trace` before
    `scale_by_learning_rate` in a chain. Moments are stored in `state_dtype`, else in the dtype of
    the parameter; the matrices in at least float32.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient, and of its square and of the matrices, in
            [0, 1).
        eps: Added to the eigenvalues, in units of the gradient squared; positive.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        block_size: Larger dimensions are cut into parts of this size, with matrices of their own;
            `None` for none.
        precondition_frequency: Updates from one factorization to the next.
        start_preconditioning_step: The first update by the matrices; `None` is
            `precondition_frequency`.
        grafting: The method whose updates have the norm: "adam"; "sgd" for the average of the
            gradient; `None` for the norm of the preconditioned average, from the first update on.
        grafting_eps: Added to the root of Adam's second moment, in units of the gradient; not
            negative.
        merge_dims: Merge neighboring dimensions, while their product is at most `block_size`.
        state_dtype: Storage dtype of the moments; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is out of
            range.

    References:
        Shi et al., "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo
        Optimizer for Training Neural Networks At-Scale", 2023. https://arxiv.org/abs/2309.06497
    """
    checks.choice("distributed_shampoo", "grafting", grafting, ("adam", "sgd", None))
    checks.betas("distributed_shampoo", "betas", betas)
    (b1, b2), start = betas, start_preconditioning_step
    start = precondition_frequency if start is None else start
    scaling: GradientTransformation = scale_by_shampoo(
        b2,
        eps=eps,
        precondition_frequency=precondition_frequency,
        merge_dims=merge_dims,
        precondition_1d=True,
        block_size=block_size,
        start_preconditioning_step=start,
        beta1=b1,
        state_dtype=state_dtype,
    )
    if grafting is not None:
        magnitude = (
            scale_by_adam(betas, grafting_eps, state_dtype=state_dtype)
            if grafting == "adam"
            else ema(b1, state_dtype=state_dtype)
        )
        scaling = graft(magnitude, scaling, start=start)
    return chain(scaling, add_decayed_weights(weight_decay), scale_by_learning_rate(lr))
