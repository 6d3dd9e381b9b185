"""Methods that Optax has, and PyTorch has not."""

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale,
    scale_by_acprop,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_madgrad,
    scale_by_novograd,
    scale_by_optimistic_gradient,
    scale_by_simplified_ademamix,
    scale_by_trust_ratio,
    shrink_by_learning_rate,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def novograd(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.25),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    *,
    grad_averaging: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """NovoGrad: `scale_by_novograd`, with its weight decay inside of the momentum.

    Steps and defaults are those of `optax.novograd`, which has no default for the learning rate.
    NVIDIA's have ``betas = (0.95, 0.98)``. The momentum is stored in `state_dtype`, else in the
    dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the momentum and of the EMA of the squared norm, in [0, 1).
        eps: Added to the norm, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the normalized gradient; not negative.
        grad_averaging: Mix the normalized gradient in with the weight 1 - betas[0].
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training
        of Deep Networks", 2019. https://arxiv.org/abs/1905.11286
    """
    scaling = scale_by_novograd(
        betas, eps, weight_decay, grad_averaging=grad_averaging, state_dtype=state_dtype
    )
    return chain(scaling, scale_by_learning_rate(lr))


@explained
def madgrad(
    lr: Scalar = 1e-2,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    eps: Scalar = 1e-6,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """MADGRAD: `scale_by_madgrad`, negated, with L2 regularization.

    Steps and defaults are those of the author's `MADGRAD` and of `optax.contrib.madgrad`. It likes
    less weight decay than SGD or Adam, often none. The sums are stored in `state_dtype`, else in
    the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: The weight of the parameters in the next ones, in [0, 1).
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        eps: Added to the cube root and to the learning rate; not negative.
        state_dtype: Storage dtype of the sums; by default that of the parameter.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), or another hyperparameter is negative.

    References:
        Defazio and Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged
        Gradient Method for Stochastic Optimization", JMLR 2022. https://arxiv.org/abs/2101.11075
    """
    scaling = scale_by_madgrad(lr, momentum, eps, state_dtype=state_dtype)
    return chain(add_decayed_weights(weight_decay), scaling, scale(-1.0))


@explained
def acprop(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-16,
    weight_decay: Scalar = 0.0,
    *,
    eps_root: Scalar = 1e-16,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """ACProp: `scale_by_acprop`, with decoupled weight decay.

    Steps and defaults are those of `optax.contrib.acprop`, which has no default for the learning
    rate. The moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its squared deviation, in [0, 1).
        eps: Added outside the root, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        eps_root: Added to the second moment in each step; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Zhuang et al., "Momentum Centering and Asynchronous Update for Adaptive Gradient Methods",
        NeurIPS 2021. https://arxiv.org/abs/2110.05454
    """
    scaling = scale_by_acprop(betas, eps, eps_root, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def simplified_ademamix(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.99, 0.95),
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Simplified AdEMAMix: `scale_by_simplified_ademamix`, with decoupled weight decay.

    Steps and defaults are those of `optax.contrib.simplified_ademamix`, which has no default for
    the learning rate: it is smaller than that of Adam, by about ``1 - betas[0]``. The moments are
    stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the sum of the gradients and of the EMA of the square, in [0, 1).
        alpha: Weight of the newest gradient beside the sum; not negative.
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Morwani et al., "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD
        Variants", 2025. https://arxiv.org/abs/2502.02431
    """
    scaling = scale_by_simplified_ademamix(betas, alpha, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def optimistic_gradient_descent(
    lr: Scalar = 1e-3,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Optimistic gradient descent: `scale_by_optimistic_gradient`, with a learning rate.

    Steps and defaults are those of `optax.optimistic_gradient_descent`, which has no default for
    the learning rate. The slot is stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        alpha: Factor of the gradient.
        beta: Factor of its change since the last step.
        state_dtype: Storage dtype of the slot; by default that of the parameter.

    Raises:
        HyperparameterError: If `lr` is negative, or a hyperparameter is not a number.

    References:
        Mokhtari et al., "A Unified Analysis of Extra-gradient and Optimistic Gradient Methods for
        Saddle Point Problems", AISTATS 2020. https://arxiv.org/abs/1901.08511
    """
    return chain(
        scale_by_optimistic_gradient(alpha, beta, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def optimistic_adam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    *,
    nesterov: bool = True,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Optimistic Adam: `scale_by_optimistic_gradient` of the updates of `scale_by_adam`.

    Steps and defaults are those of `optax.optimistic_adam_v2`, which has no default for the
    learning rate. The slots are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        alpha: Factor of Adam's update.
        beta: Factor of its change since the last step.
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `lr` or `eps` is negative, or a
            hyperparameter is not a number.

    References:
        Daskalakis et al., "Training GANs with Optimism", ICLR 2018.
        https://arxiv.org/abs/1711.00141
    """
    return chain(
        scale_by_adam(betas, eps, nesterov=nesterov, state_dtype=state_dtype),
        scale_by_optimistic_gradient(alpha, beta, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def fromage(lr: Scalar = 1e-2, min_norm: Scalar = 1e-6) -> GradientTransformation:
    """Fromage: `scale_by_trust_ratio`, then `shrink_by_learning_rate`, negated.

    Steps and defaults are those of `optax.fromage`, which has no default for the learning rate;
    0.01 is the authors'.

    Args:
        lr: Learning rate: the relative length of the step of a tensor; not negative.
        min_norm: Lower bound of the norms of parameter and gradient; not negative.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Bernstein et al., "On the distance between two neural networks and the stability of
        learning", NeurIPS 2020. https://arxiv.org/abs/2002.03432
    """
    return chain(scale_by_trust_ratio(min_norm), shrink_by_learning_rate(lr), scale(-1.0))
