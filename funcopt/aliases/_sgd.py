"""Gradient descent, with momentum or with averaging."""

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    add_noise,
    dp_aggregate,
    mean_of_params,
    scale,
    scale_by_asgd,
    scale_by_learning_rate,
    trace,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def dpsgd(
    lr: Scalar,
    max_norm: Scalar,
    noise_multiplier: Scalar,
    momentum: Scalar = 0.0,
    nesterov: bool = False,
    seed: Scalar = 0,
    batch_size: Scalar | None = None,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """DP-SGD: `dp_aggregate` of the gradients of all examples, then momentum.

    The same as `optax.contrib.dpsgd`, but for the random numbers. The momentum is stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        max_norm: Upper bound of the norm of each per-example gradient; positive.
        noise_multiplier: Standard deviation of the noise, in units of `max_norm`; not
            negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        nesterov: Use Nesterov momentum.
        seed: Seed of the noise: an integer, not negative. Keep it secret.
        batch_size: The divisor of the sum, such as the expected batch size; by default the
            number of examples.
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.
        https://arxiv.org/abs/1607.00133
    """
    return chain(
        dp_aggregate(max_norm, noise_multiplier, seed=seed, batch_size=batch_size),
        trace(momentum, nesterov=nesterov, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def noisy_sgd(
    lr: Scalar, eta: Scalar = 0.01, gamma: Scalar = 0.55, seed: Scalar = 0
) -> GradientTransformation:
    """SGD with noise on the gradients: `add_noise`, then the learning rate.

    The defaults are those of `optax.noisy_sgd`.

    Args:
        lr: Learning rate; not negative.
        eta: Variance of the noise at the first step, in units of the gradient squared; not
            negative.
        gamma: Power with which the variance decays; not negative.
        seed: Seed of the noise: an integer, not negative.

    Raises:
        HyperparameterError: If a hyperparameter is negative, or `seed` is not an integer.

    References:
        Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015.
        https://arxiv.org/abs/1511.06807
    """
    return chain(add_noise(eta, gamma, seed=seed), scale_by_learning_rate(lr))


@explained
def sgd(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """SGD: `trace` of the gradients, with L2 regularization.

    The defaults are those of `torch.optim.SGD`, and so are the steps. The momentum is stored in
    `state_dtype`, else in the dtype of the parameter; at 0 it takes no memory.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        dampening: Dampening of the momentum: its new gradients are multiplied by ``1 -
            dampening``.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML 2013. https://proceedings.mlr.press/v28/sutskever13.html
    """
    return chain(
        add_decayed_weights(weight_decay),
        trace(momentum, dampening=dampening, nesterov=nesterov, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def sgdw(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """SGDW: `trace` of the gradients, with decoupled weight decay.

    `sgd`, but that the decay is no part of the momentum. The momentum is stored in `state_dtype`,
    else in the dtype of the parameter; at 0 it takes no memory.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the momentum, in [0, 1); 0 for none.
        dampening: Dampening of the momentum: its new gradients are multiplied by ``1 -
            dampening``.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, Algorithm 1.
        https://arxiv.org/abs/1711.05101
    """
    scaling = trace(momentum, dampening=dampening, nesterov=nesterov, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def asgd(
    lr: Scalar = 1e-2,
    lambd: Scalar = 1e-4,
    alpha: Scalar = 0.75,
    t0: Scalar = 1e6,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Averaged SGD: `scale_by_asgd` with L2 regularization, and `mean_of_params` since step t0.

    The defaults are those of `torch.optim.ASGD`, and so are the steps. Torch's `ax` are the
    averaged weights, used for evaluation: `eval_params`, or `Optimizer.averaged`. They are stored
    in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Initial learning rate; not negative.
        lambd: Decay of the parameters, per unit of the learning rate; not negative.
        alpha: Power with which the learning rate decays.
        t0: The step at which averaging starts.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative; `alpha` may be.

    References:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_asgd(lr, lambd, alpha),
        scale(-1.0),
        mean_of_params(t0, state_dtype=state_dtype),
    )
