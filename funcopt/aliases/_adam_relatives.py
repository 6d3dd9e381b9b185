"""Older relatives of Adam."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale,
    scale_by_adabound,
    scale_by_adamod,
    scale_by_adamp,
    scale_by_ano,
    scale_by_diffgrad,
    scale_by_grams,
    scale_by_learning_rate,
    scale_by_padam,
    scale_by_qhadam,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def qhadam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    nus: tuple[Scalar, Scalar] = (1.0, 1.0),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    decoupled_weight_decay: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """QHAdam: `scale_by_qhadam`, with weight decay in the gradient or decoupled.

    Steps and defaults are those of the authors' `QHAdam`: by default it is Adam. The paper advises
    ``nus = (0.7, 1.0)`` with ``betas = (0.995, 0.999)``. The moments are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        nus: Weights of the EMAs in the numerator and below the root, in [0, 1].
        eps: Added to the root, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        decoupled_weight_decay: Decouple the weight decay, as in AdamW.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), a weight is outside [0, 1], or
            another hyperparameter is negative.

    References:
        Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019.
        https://arxiv.org/abs/1810.06801
    """
    checks.switch("qhadam", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_qhadam(betas, nus, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled_weight_decay)


@explained
def adamp(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    delta: Scalar = 0.1,
    wd_ratio: Scalar = 0.1,
    nesterov: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdamP: `scale_by_adamp`, Adam that does not make scale-invariant weights larger.

    Steps and defaults are those of the authors' `AdamP`. The moments are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root, in units of the gradient, and to norms; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        delta: Threshold of the cosine of gradient and parameter, times the root of the number of
            entries of a row; not negative.
        wd_ratio: Factor of the weight decay of tensors that are projected, in [0, 1].
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `wd_ratio` is outside [0, 1], or
            another hyperparameter is negative.

    References:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021. https://arxiv.org/abs/2006.08217
    """
    scaling = scale_by_adamp(
        betas, eps, weight_decay, delta, wd_ratio, nesterov=nesterov, state_dtype=state_dtype
    )
    return chain(scaling, scale_by_learning_rate(lr))


@explained
def adabound(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    final_lr: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
    base_lr: Scalar | None = None,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdaBound: `scale_by_adabound`, negated, with L2 regularization.

    Steps and defaults are those of the authors' `AdaBound`, whose `amsbound` is `amsgrad`. The
    moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate of the first steps, as of Adam; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        final_lr: Learning rate of the last steps, as of SGD; not negative.
        gamma: How fast the bounds close in; positive.
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        amsgrad: Divide by the maximum of the second moments so far (AMSBound).
        base_lr: The learning rate at which the last is `final_lr`; positive. By default the first
            that is not 0, which is not the peak if there is a warm-up.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `gamma` or `base_lr` is not
            positive, or another hyperparameter is negative.

    References:
        Luo et al., "Adaptive Gradient Methods with Dynamic Bound of Learning Rate", ICLR 2019.
        https://arxiv.org/abs/1902.09843
    """
    scaling = scale_by_adabound(
        lr, betas, final_lr, gamma, eps, amsgrad=amsgrad, base_lr=base_lr, state_dtype=state_dtype
    )
    return chain(add_decayed_weights(weight_decay), scaling, scale(-1.0))


@explained
def diffgrad(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """DiffGrad: `scale_by_diffgrad`, with L2 regularization.

    Steps and defaults are those of the authors' `diffgrad`. The slots are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks", 2019.
        https://arxiv.org/abs/1909.11015
    """
    scaling = scale_by_diffgrad(betas, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=False)


@explained
def padam(
    lr: Scalar = 0.1,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    partial: Scalar = 0.25,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = True,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Padam: `scale_by_padam`, with L2 regularization.

    Steps and defaults are those of the authors' `Padam`. The moments are stored in `state_dtype`,
    else in the dtype of the parameter.

    Args:
        lr: Learning rate, nearer to that of SGD than of Adam; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        partial: The power of the second moment, in (0, 1]: 0.5 is Adam.
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `partial` is outside (0, 1], or
            another hyperparameter is negative.

    References:
        Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep
        Neural Networks", IJCAI 2020. https://arxiv.org/abs/1806.06763
    """
    scaling = scale_by_padam(betas, partial, eps, amsgrad=amsgrad, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=False)


@explained
def grams(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Grams: `scale_by_grams`, with decoupled weight decay.

    Steps and defaults are those of `pytorch_optimizer.Grams`. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Cao et al., "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024.
        https://arxiv.org/abs/2412.17107
    """
    scaling = scale_by_grams(betas, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def ano(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.92, 0.99),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Ano: `scale_by_ano`, with decoupled weight decay.

    Steps and defaults are those of `pytorch_optimizer.Ano`. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMA of the gradient, in [0, 1), and of its square, in [0.5, 1).
        eps: Added to the root, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is out of range, or another hyperparameter is
            negative.

    References:
        Kegreisz, "Ano: Faster is Better in Noisy Landscape", 2025.
        https://arxiv.org/abs/2508.18258
    """
    scaling = scale_by_ano(betas, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def adamod(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdaMod: `scale_by_adamod`, negated, with decoupled weight decay.

    Steps and defaults are those of the authors' `AdaMod`, whose `beta3` is ``betas[2]``. The slots
    are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient, of its square, and of the learning rates of
            entries, in [0, 1).
        eps: Added to the root, without bias correction, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Ding et al., "An Adaptive and Momental Bound Method for Stochastic Learning", 2019.
        https://arxiv.org/abs/1910.12249
    """
    return chain(
        scale_by_adamod(lr, betas, eps, weight_decay, state_dtype=state_dtype), scale(-1.0)
    )
