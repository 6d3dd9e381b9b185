"""Methods for large batches, with a trust ratio for every tensor."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_trust_ratio,
    trace,
)
from ..typing import Scalar


@explained
def lamb(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    *,
    decoupled_weight_decay: bool = False,
    max_ratio: Scalar | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """LAMB: `scale_by_adam` and weight decay, then `scale_by_trust_ratio`.

    The steps are those of `optax.lamb`: the norm of a parameter is not clipped, so what the paper
    calls phi is the identity. To keep biases and norms out, write the chain with `masked`. With
    ``max_ratio=1.0`` steps are never enlarged, as by `trust_clip` of timm. The moments are stored
    in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added before the trust ratio; not negative.
        decoupled_weight_decay: Add it after the trust ratio, as AdamW does.
        max_ratio: The largest trust ratio; positive. By default there is none.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `max_ratio` is not positive, or
            another hyperparameter is negative.

    References:
        You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR
        2020, Algorithm 2. https://arxiv.org/abs/1904.00962
    """
    checks.switch("lamb", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_adam(betas, eps=eps, state_dtype=state_dtype)
    decay, ratio = add_decayed_weights(weight_decay), scale_by_trust_ratio(max_ratio=max_ratio)
    between = (ratio, decay) if decoupled_weight_decay else (decay, ratio)
    return chain(scaling, *between, scale_by_learning_rate(lr))


@explained
def lars(
    lr: Scalar = 1.0,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 1e-3,
    eps: Scalar = 0.0,
    nesterov: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """LARS: L2 regularization, `scale_by_trust_ratio`, the learning rate, then momentum.

    The steps are those of `optax.lars`. The momentum is that of whole steps, learning rate
    included, as in the paper; the ratio has ``norm(g + weight_decay p)`` in the denominator, where
    the paper has ``norm(g) + weight_decay norm(p)``. To keep biases and norms out, write the chain
    with `masked`. The momentum is stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the momentum, in [0, 1).
        weight_decay: Weight decay, added to the gradient before the trust ratio; not
            negative.
        trust_coefficient: Ratio of the norms of update and parameter; not negative.
        eps: Added to the norm of the update; not negative.
        nesterov: Use Nesterov momentum.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        You et al., "Large Batch Training of Convolutional Networks", 2017, Algorithm 1.
        https://arxiv.org/abs/1708.03888
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps),
        scale_by_learning_rate(lr),
        trace(momentum, nesterov=nesterov, state_dtype=state_dtype),
    )
