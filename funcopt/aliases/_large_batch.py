"""Methods for large batches, whose steps are as long as their parameters are."""

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
) -> GradientTransformation:
    """LAMB: `scale_by_adam` and weight decay, then `scale_by_trust_ratio`.

    The numbers are those of `optax.lamb`: the length of a parameter is not clipped, so what the
    paper calls phi is the identity. To keep biases and norms out, write the chain with `masked`.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another number is negative.

    References:
        You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR
        2020, Algorithm 2. https://arxiv.org/abs/1904.00962
    """
    return chain(
        scale_by_adam(betas, eps=eps),
        add_decayed_weights(weight_decay),
        scale_by_trust_ratio(),
        scale_by_learning_rate(lr),
    )


@explained
def lars(
    lr: Scalar = 1.0,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 1e-3,
    eps: Scalar = 0.0,
    nesterov: bool = False,
) -> GradientTransformation:
    """LARS: L2 regularisation, `scale_by_trust_ratio`, the learning rate, then momentum.

    The numbers are those of `optax.lars`. The momentum is that of whole steps, rate included, as in
    the paper; of the ratio, the paper has ``norm(g) + weight_decay norm(p)`` below the line, where
    this has ``norm(g + weight_decay p)``. To keep biases and norms out, write the chain with
    `masked`.

    Raises:
        HyperparameterError: If a number is negative.

    References:
        You et al., "Large Batch Training of Convolutional Networks", 2017, Algorithm 1.
        https://arxiv.org/abs/1708.03888
    """
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps),
        scale_by_learning_rate(lr),
        trace(momentum, nesterov=nesterov),
    )
