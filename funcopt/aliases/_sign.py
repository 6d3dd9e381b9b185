"""Methods whose updates are signs."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    ema,
    scale,
    scale_by_learning_rate,
    scale_by_lion,
    scale_by_rprop,
    scale_by_sign,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def lion(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.9, 0.99),
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Lion: `scale_by_lion`, with decoupled weight decay.

    Steps and defaults are those of `lion_pytorch.Lion`; `optax.lion` takes the same steps, and its
    default for `weight_decay` is 1e-3. The momentum is stored in `state_dtype`, else in the dtype
    of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the interpolation and of the EMA of the gradient, in [0, 1).
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If one of `betas` is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023.
        https://arxiv.org/abs/2302.06675
    """
    return chain(
        scale_by_lion(betas, state_dtype=state_dtype),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )


@explained
def rprop(
    lr: Scalar = 1e-2,
    etas: tuple[Scalar, Scalar] = (0.5, 1.2),
    step_sizes: tuple[Scalar, Scalar] = (1e-6, 50),
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Rprop: `scale_by_rprop`, negated.

    The defaults are those of `torch.optim.Rprop`, and so are the steps. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Initial step size, in units of the parameter; not negative. Later values are not
            read.
        etas: Factors by which step sizes shrink, in (0, 1), and grow, above 1.
        step_sizes: Lower and upper bound of the step sizes, in units of the parameter.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If `etas` are not below and above 1, or another hyperparameter is
            negative.

    References:
        Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The
        RPROP Algorithm", ICNN 1993.
    """
    return chain(scale_by_rprop(lr, etas, step_sizes, state_dtype=state_dtype), scale(-1.0))


@explained
def signum(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Signum: the sign of the `ema` of the gradient, with decoupled weight decay.

    Without decay, the steps are those of `optax.signum`. The EMA is stored in `state_dtype`, else
    in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the EMA; by default that of the parameter.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), or another hyperparameter is negative.

    References:
        Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018,
        Algorithm 2. https://arxiv.org/abs/1802.04434
    """
    scaling = chain(ema(momentum, debias=False, state_dtype=state_dtype), scale_by_sign())
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def sign_sgd(lr: Scalar = 1e-3, weight_decay: Scalar = 0.0) -> GradientTransformation:
    """SignSGD: `scale_by_sign`, with decoupled weight decay.

    Without decay, the steps are those of `optax.sign_sgd`. There is no state.

    Args:
        lr: Learning rate; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018,
        Algorithm 1. https://arxiv.org/abs/1802.04434
    """
    return decayed(scale_by_sign(), weight_decay, lr, decoupled=True)


@explained
def tiger(
    lr: Scalar = 1e-3,
    beta: Scalar = 0.965,
    weight_decay: Scalar = 0.01,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Tiger: `signum` with other defaults.

    Steps and defaults are those of the author's `Tiger`, for weights: its learning rates of biases
    are for a `partition`, and its accumulation of gradients in the EMA is left out. The EMA is
    stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        beta: Decay rate of the EMA of the gradient, in [0, 1).
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the EMA; by default that of the parameter.

    Raises:
        HyperparameterError: If `beta` is outside [0, 1), or another hyperparameter is negative.

    References:
        Su, "Tiger: A Tight-fisted Optimizer", 2023. https://github.com/bojone/tiger
    """
    checks.in_unit_interval("tiger", "beta", beta)
    return signum(lr, beta, weight_decay, state_dtype=state_dtype)
