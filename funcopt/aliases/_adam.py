"""The Adam family."""

from .._base import GradientTransformation
from .._typing import Scalar
from ..combinators import chain
from ..transforms import add_decayed_weights, scale_by_adam, scale_by_learning_rate


def adam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
    *,
    decoupled_weight_decay: bool = False,
) -> GradientTransformation:
    """Adam: `scale_by_adam`, with L2 regularisation.

    The defaults are those of `torch.optim.Adam`, and so are the steps. With
    `decoupled_weight_decay` it is `adamw`.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another number is negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
        https://arxiv.org/abs/1412.6980
    """
    if decoupled_weight_decay:
        return adamw(lr, betas, eps, weight_decay, amsgrad)
    return chain(
        add_decayed_weights(weight_decay),
        scale_by_adam(betas, eps=eps, amsgrad=amsgrad),
        scale_by_learning_rate(lr),
    )


def adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    amsgrad: bool = False,
) -> GradientTransformation:
    """AdamW: `scale_by_adam`, with the weight decay kept out of the moments.

    The defaults are those of `torch.optim.AdamW`, and so are the steps.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another number is negative.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
        https://arxiv.org/abs/1711.05101
    """
    return chain(
        scale_by_adam(betas, eps=eps, amsgrad=amsgrad),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )
