"""Gradient descent, with momentum."""

from .._base import GradientTransformation
from .._typing import Scalar
from ..combinators import chain
from ..transforms import add_decayed_weights, scale_by_learning_rate, trace


def sgd(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
) -> GradientTransformation:
    """SGD: `trace` of the gradients, with L2 regularisation.

    The defaults are those of `torch.optim.SGD`, and so are the steps. A momentum of 0 takes no
    memory.

    Raises:
        HyperparameterError: If a number is negative.

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML 2013. https://proceedings.mlr.press/v28/sutskever13.html
    """
    return chain(
        add_decayed_weights(weight_decay),
        trace(momentum, dampening=dampening, nesterov=nesterov),
        scale_by_learning_rate(lr),
    )
