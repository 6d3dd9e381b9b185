"""The adaptive methods before Adam."""

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_learning_rate,
    scale_by_rms,
    trace,
)
from ..typing import Scalar


@explained
def rmsprop(
    lr: Scalar = 1e-2,
    alpha: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    centered: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """RMSprop: `scale_by_rms`, then momentum, with L2 regularization.

    The defaults are those of `torch.optim.RMSprop`, and so are the steps. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        alpha: Decay rate of the EMA of the squared gradient, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        centered: Divide by the standard deviation of the gradient.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If `alpha` is outside [0, 1), or another hyperparameter is negative.

    References:
        Tieleman and Hinton, "Lecture 6.5, rmsprop", 2012; Graves, 2013,
        https://arxiv.org/abs/1308.0850, for centered.
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_rms(alpha, eps=eps, centered=centered, state_dtype=state_dtype),
        trace(momentum, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def rmsprop_tf(
    lr: Scalar = 1e-2,
    alpha: Scalar = 0.9,
    eps: Scalar = 1e-10,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    centered: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """RMSprop as TensorFlow has it: the second moment begins at 1, and eps is inside the root.

    The momentum is that of whole steps, learning rate included. The steps are those of
    ``optax.rmsprop(lr, alpha, eps, initial_scale=1.0, momentum=momentum)``, and of `RMSpropTF` of
    timm. Slots are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        alpha: Decay rate of the EMA of the squared gradient, in [0, 1).
        eps: Added to the second moment, in units of the squared gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        centered: Divide by the standard deviation of the gradient.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If `alpha` is outside [0, 1), or another hyperparameter is negative.

    References:
        Tieleman and Hinton, "Lecture 6.5, rmsprop", 2012; `tf.compat.v1.train.RMSPropOptimizer`.
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_rms(
            alpha,
            eps=eps,
            centered=centered,
            eps_in_sqrt=True,
            initial_scale=1.0,
            state_dtype=state_dtype,
        ),
        scale_by_learning_rate(lr),
        trace(momentum, state_dtype=state_dtype),
    )


@explained
def adagrad(
    lr: Scalar = 1e-2,
    lr_decay: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    initial_accumulator_value: Scalar = 0.0,
    eps: Scalar = 1e-10,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adagrad: `scale_by_adagrad`, with L2 regularization.

    The defaults are those of `torch.optim.Adagrad`, and so are the steps. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        lr_decay: Decay of the learning rate per step; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        initial_accumulator_value: Initial value of the sum of squares; not negative.
        eps: Added to the root of the sum, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization", JMLR 2011. https://jmlr.org/papers/v12/duchi11a.html
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_adagrad(
            lr_decay=lr_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            state_dtype=state_dtype,
        ),
        scale_by_learning_rate(lr),
    )


@explained
def adadelta(
    lr: Scalar = 1.0,
    rho: Scalar = 0.9,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adadelta: `scale_by_adadelta`, with L2 regularization.

    The defaults are those of `torch.optim.Adadelta`, and so are the steps. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        rho: Decay rate of the EMAs of the squared gradients and updates, in [0, 1).
        eps: Added inside both roots; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If `rho` is outside [0, 1), or another hyperparameter is negative.

    References:
        Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012. https://arxiv.org/abs/1212.5701
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_adadelta(rho, eps=eps, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )
