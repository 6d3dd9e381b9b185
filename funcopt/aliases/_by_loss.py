"""Methods whose step size depends on the value of the loss."""

from typing import Literal

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    scale,
    scale_by_learning_rate,
    scale_by_momo,
    scale_by_momo_adam,
    scale_by_polyak,
)
from ..typing import Scalar


@explained
def polyak_sgd(
    lr: Scalar = 1.0,
    max_lr: Scalar = 1.0,
    f_min: Scalar = 0.0,
    eps: Scalar = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
) -> GradientTransformation:
    """Polyak SGD: gradient descent by Polyak's step size, `scale_by_polyak`.

    Steps and defaults are those of `optax.polyak_sgd`, whose ``scaling`` is `lr`, and whose
    ``max_learning_rate`` is `max_lr`. It needs the loss: ``update(..., value=loss)``,
    ``opt.step(closure)`` or ``opt.step(value=loss)``.

    Args:
        lr: Multiplies the step size; not negative.
        max_lr: Upper bound of the step size; positive.
        f_min: The lowest value of the loss, or a lower bound.
        eps: Added to the squared norm of the gradient; not negative.
        variant: ``"sps"``, or ``"sps+"``, which does not ascend where the loss is below `f_min`.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Loizou et al., "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast
        Convergence", AISTATS 2021. https://arxiv.org/abs/2002.10542
    """
    return chain(scale_by_polyak(f_min, max_lr, eps, variant), scale_by_learning_rate(lr))


@explained
def momo(
    lr: Scalar = 1.0,
    beta: Scalar = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """MoMo, SGD with momentum and a step size from the loss: `scale_by_momo`, negated.

    Steps and defaults are those of `optax.contrib.momo`, a port by its author. It needs the loss:
    ``update(..., value=loss)``, ``opt.step(closure)`` or ``opt.step(value=loss)``. The EMA of the
    gradient is stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Upper bound of the learning rate; not negative, and rather large.
        beta: Decay rate of the EMAs of gradient and loss, in [0, 1).
        lower_bound: The lowest value of the loss, or a lower bound.
        weight_decay: Weight decay, times the learning rate; not negative.
        adapt_lower_bound: Estimate the lower bound.
        state_dtype: Storage dtype of the slot; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024.
        https://arxiv.org/abs/2305.07583
    """
    scaling = scale_by_momo(
        lr,
        lower_bound,
        weight_decay,
        beta=beta,
        adapt_lower_bound=adapt_lower_bound,
        state_dtype=state_dtype,
    )
    return chain(scaling, scale(-1.0))


@explained
def momo_adam(
    lr: Scalar = 1e-2,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """MoMo-Adam, AdamW with a step size from the loss: `scale_by_momo_adam`, negated.

    Steps and defaults are those of `optax.contrib.momo_adam`, a port by its author. It needs the
    loss: ``update(..., value=loss)``, ``opt.step(closure)`` or ``opt.step(value=loss)``. The
    moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Upper bound of the learning rate; not negative, and rather large.
        betas: Decay rates of the EMAs of the gradient and the loss, and of the squared gradient,
            in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        lower_bound: The lowest value of the loss, or a lower bound.
        weight_decay: Weight decay, times the learning rate; not negative.
        adapt_lower_bound: Estimate the lower bound.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024.
        https://arxiv.org/abs/2305.07583
    """
    scaling = scale_by_momo_adam(
        lr,
        lower_bound,
        weight_decay,
        betas=betas,
        eps=eps,
        adapt_lower_bound=adapt_lower_bound,
        state_dtype=state_dtype,
    )
    return chain(scaling, scale(-1.0))
