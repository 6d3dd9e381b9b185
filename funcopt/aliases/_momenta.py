"""Gradient descent with other momenta than the heavy ball."""

import torch

from .._core import checks
from .._core.compact import in_message as shown
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, weighted_sum
from ..transforms import scale_by_learning_rate, scale_by_qhm, scale_by_sgdp, trace
from ..typing import Scalar
from ._decayed import decayed


@explained
def qhm(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.999,
    nu: Scalar = 0.7,
    weight_decay: Scalar = 0.0,
    *,
    decoupled_weight_decay: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """QHM: `scale_by_qhm`, with weight decay in the gradient or decoupled.

    Steps are those of the authors' `QHM`, which has no defaults; these are the paper's rule of
    thumb. Learning rates are larger than those of `sgd`, by 1 / (1 - momentum) where nu is 1. The
    EMA is stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        nu: Weight of the EMA in the update, in [0, 1].
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        decoupled_weight_decay: Decouple the weight decay, as in AdamW.
        state_dtype: Storage dtype of the EMA; by default that of the parameter.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `nu` is outside [0, 1], or another
            hyperparameter is negative.

    References:
        Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019.
        https://arxiv.org/abs/1810.06801
    """
    checks.switch("qhm", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_qhm(momentum, nu, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled_weight_decay)


@explained
def sgdp(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    eps: Scalar = 1e-8,
    delta: Scalar = 0.1,
    wd_ratio: Scalar = 0.1,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """SGDP: `scale_by_sgdp`, SGD that does not make scale-invariant weights larger.

    Steps and defaults are those of the authors' `SGDP`, which has no default for the learning rate.
    The momentum is stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the momentum, in [0, 1).
        dampening: The fraction of a gradient that is left out, in the first step too.
        weight_decay: Decoupled weight decay, times the learning rate over 1 - momentum; not
            negative.
        nesterov: Use Nesterov momentum.
        eps: Added to norms; not negative.
        delta: Threshold of the cosine of gradient and parameter, times the root of the number of
            entries of a row; not negative.
        wd_ratio: Factor of the weight decay of tensors that are projected, in [0, 1].
        state_dtype: Storage dtype of the momentum; by default that of the parameter.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `wd_ratio` is outside [0, 1], or
            another hyperparameter is negative.

    References:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021. https://arxiv.org/abs/2006.08217
    """
    scaling = scale_by_sgdp(
        momentum,
        dampening,
        eps,
        weight_decay,
        delta,
        wd_ratio,
        nesterov=nesterov,
        state_dtype=state_dtype,
    )
    return chain(scaling, scale_by_learning_rate(lr))


@explained
def aggmo(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, ...] = (0.0, 0.9, 0.99),
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AggMo: the mean of several momenta, `trace` in a `weighted_sum`, with L2 regularization.

    Steps and defaults are those of the authors' `AggMo`, which has no default for the learning
    rate. Slow momenta average over many steps, and fast ones keep them from oscillating. A Python
    number 0 has no buffer; the others are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the momenta, as many as wanted, in [0, 1).
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the momenta; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative; if `betas` is no tuple, or empty.

    References:
        Lucas et al., "Aggregated Momentum: Stability Through Passive Damping", ICLR 2019.
        https://arxiv.org/abs/1804.00325
    """
    if not isinstance(betas, (tuple, list)) or not betas:
        said = f"must be a tuple of decay rates, got {shown(betas)}."
        checks.refuse("aggmo", "betas", betas, said)
    count = len(betas)
    checks.betas("aggmo", "betas", betas, count=count)
    momenta = tuple(trace(beta, state_dtype=state_dtype) for beta in betas)
    mean = weighted_sum(momenta, (1 / count,) * count)
    return decayed(mean, weight_decay, lr, decoupled=False)
