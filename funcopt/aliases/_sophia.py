"""Sophia: a diagonal estimate of the Hessian."""

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..transforms import scale_by_sophia
from ..typing import Scalar
from ._decayed import decayed


@explained
def sophia(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.965, 0.99),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    gamma: Scalar = 0.01,
    clip_threshold: Scalar = 1.0,
    debias: bool = True,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Sophia: `scale_by_sophia`, with decoupled weight decay.

    Estimates of the diagonal of the Hessian are given to a step, ``step(hessian=...)`` by name or
    ``update(grads, state, params, hessian=...)``, and take effect in it, as in the paper; in Optax,
    whose defaults these are but for `lr`, they do in the next one. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative. The step of an entry that is clipped.
        betas: Decay rates of the EMAs of the gradient and of the estimates, in [0, 1).
        eps: Lower bound of the denominator; positive.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        gamma: Factor of the Hessian; positive.
        clip_threshold: Largest absolute value of an entry, before `lr`; positive.
        debias: Apply the bias correction of the EMA of the gradient.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
        Pre-training", ICLR 2024. https://arxiv.org/abs/2305.14342
    """
    scaling = scale_by_sophia(
        betas, eps, gamma, clip_threshold, debias=debias, state_dtype=state_dtype
    )
    return decayed(scaling, weight_decay, lr, decoupled=True)
