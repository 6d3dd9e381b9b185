"""Methods whose learning rate is a distance over a norm of gradients, or a bet."""

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale,
    scale_by_cocob,
    scale_by_dog,
    scale_by_dowg,
    scale_by_ldog,
    scale_by_learning_rate,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def dog(
    lr: Scalar = 1.0,
    reps_rel: Scalar = 1e-6,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
) -> GradientTransformation:
    """DoG: `scale_by_dog`, with L2 regularization. Leave `lr` at 1.

    Steps and defaults are those of the authors' code and of `optax.contrib.dog` with its default
    ``init_step``. The authors evaluate an average of the parameters: put `ema_of_params` after it,
    or give the class `ema`.

    Args:
        lr: Multiplies the estimated learning rate; leave it at 1, or let a schedule go from 1 to 0.
        reps_rel: The initial distance, relative to 1 + norm(p0); positive. The authors take 1e-4
            for models with batch normalization.
        eps: Added to the sum of the squared gradients; positive.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Ivgi et al., "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", ICML
        2023. https://arxiv.org/abs/2302.12022
    """
    return decayed(scale_by_dog(reps_rel, eps), weight_decay, lr, decoupled=False)


@explained
def ldog(
    lr: Scalar = 1.0,
    reps_rel: Scalar = 1e-6,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
) -> GradientTransformation:
    """LDoG, DoG for each tensor by itself: `scale_by_ldog`, with L2 regularization.

    Steps and defaults are those of the authors' code and of
    `optax.scale_by_distance_over_gradients`. As for `dog`, leave `lr` at 1, and evaluate an average
    of the parameters.

    Args:
        lr: Multiplies the estimated learning rates; leave it at 1, or let a schedule go from 1
            to 0.
        reps_rel: The initial distance, relative to 1 + norm(p0); positive. The authors take 1e-4
            for models with batch normalization.
        eps: Added to the sum of the squared gradients; positive.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Ivgi et al., "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", ICML
        2023. https://arxiv.org/abs/2302.12022
    """
    return decayed(scale_by_ldog(reps_rel, eps), weight_decay, lr, decoupled=False)


@explained
def dowg(
    lr: Scalar = 1.0,
    init_dist: Scalar | None = None,
    eps: Scalar = 1e-4,
    weight_decay: Scalar = 0.0,
) -> GradientTransformation:
    """DoWG: `scale_by_dowg`, with L2 regularization. Leave `lr` at 1.

    Steps and defaults are those of `optax.contrib.dowg`, whose ``init_estim_sq_dist`` is the square
    of `init_dist`.

    Args:
        lr: Multiplies the estimated learning rate; leave it at 1, or let a schedule go from 1 to 0.
        init_dist: The initial distance, in units of the parameter; positive. `None` is the root of
            `eps`.
        eps: Added to the root of the sum of the weighted squares; positive.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Khaled et al., "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient Descent
        Method", NeurIPS 2023. https://arxiv.org/abs/2305.16284
    """
    return decayed(scale_by_dowg(init_dist, eps), weight_decay, lr, decoupled=False)


@explained
def cocob(
    lr: Scalar = 1.0,
    alpha: Scalar = 100.0,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """COCOB: `scale_by_cocob`, with L2 regularization. There is no learning rate.

    Steps and defaults are those of `optax.contrib.cocob`. The sums are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Multiplies the gradient, whose scale does not matter: leave it at 1. A schedule weighs
            gradients.
        alpha: Bounds the first bets: the first step is 1 / alpha; positive.
        eps: Lower bound of the largest gradient so far; positive.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the sums; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Orabona and Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting",
        NeurIPS 2017. https://arxiv.org/abs/1705.07795
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr, flip_sign=False),
        scale_by_cocob(alpha, eps, state_dtype=state_dtype),
        scale(-1.0),
    )
