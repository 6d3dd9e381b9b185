"""The Adam family."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_adam,
    scale_by_adamax,
    scale_by_belief,
    scale_by_learning_rate,
    scale_by_nadam,
    scale_by_radam,
    scale_by_yogi,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def adam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
    *,
    decoupled_weight_decay: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adam: `scale_by_adam`, with L2 regularization.

    The defaults are those of `torch.optim.Adam`, and so are the steps. With
    `decoupled_weight_decay` it is `adamw`. The moments are stored in `state_dtype`, else in the
    dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        decoupled_weight_decay: Use decoupled weight decay instead of L2 regularization.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
        https://arxiv.org/abs/1412.6980
    """
    checks.switch("adam", "decoupled_weight_decay", decoupled_weight_decay)
    if decoupled_weight_decay:
        return adamw(lr, betas, eps, weight_decay, amsgrad, state_dtype=state_dtype)
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_adam(betas, eps=eps, amsgrad=amsgrad, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    amsgrad: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdamW: `scale_by_adam`, with decoupled weight decay.

    The defaults are those of `torch.optim.AdamW`, and so are the steps. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
        https://arxiv.org/abs/1711.05101
    """
    return chain(
        scale_by_adam(betas, eps=eps, amsgrad=amsgrad, state_dtype=state_dtype),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )


@explained
def nadam(
    lr: Scalar = 2e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum_decay: Scalar = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """NAdam: `scale_by_nadam`, with L2 regularization or decoupled weight decay.

    The defaults are those of `torch.optim.NAdam`, and so are the steps. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        momentum_decay: How fast the momentum warms up to ``betas[0]``; not negative.
        decoupled_weight_decay: Use decoupled weight decay instead of L2 regularization.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
        https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    checks.switch("nadam", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_nadam(betas, eps=eps, momentum_decay=momentum_decay, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled_weight_decay)


@explained
def radam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """RAdam: `scale_by_radam`, with L2 regularization or decoupled weight decay.

    The defaults are those of `torch.optim.RAdam`, and so are the steps. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        decoupled_weight_decay: Use decoupled weight decay instead of L2 regularization.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020.
        https://arxiv.org/abs/1908.03265
    """
    checks.switch("radam", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_radam(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled_weight_decay)


@explained
def adamax(
    lr: Scalar = 2e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adamax: `scale_by_adamax`, with L2 regularization.

    The defaults are those of `torch.optim.Adamax`, and so are the steps. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMA of the gradient and of the maximum, in [0, 1).
        eps: Added to the absolute value of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
        https://arxiv.org/abs/1412.6980
    """
    scaling = scale_by_adamax(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=False)


@explained
def adabelief(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-16,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdaBelief: `scale_by_belief`, with decoupled weight decay.

    Without decay, the steps are those of `optax.adabelief`. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its squared deviation, in [0,
            1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
        Gradients", NeurIPS 2020. https://arxiv.org/abs/2010.07468
    """
    scaling = scale_by_belief(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def yogi(
    lr: Scalar = 1e-2,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-3,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Yogi: `scale_by_yogi`, with decoupled weight decay.

    Without decay, the steps are those of `optax.yogi`. The moments are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018.
    """
    scaling = scale_by_yogi(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)
