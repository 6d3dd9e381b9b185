"""Methods whose updates are signs."""

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    scale,
    scale_by_learning_rate,
    scale_by_lion,
    scale_by_rprop,
)
from ..typing import Scalar


@explained
def lion(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.9, 0.99),
    weight_decay: Scalar = 1e-2,
) -> GradientTransformation:
    """Lion: `scale_by_lion`, with decoupled weight decay.

    The numbers are those of `optax.lion`, whose default for `weight_decay` is 1e-3.

    Raises:
        HyperparameterError: If one of `betas` is outside [0, 1), or another number is negative.

    References:
        Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023.
        https://arxiv.org/abs/2302.06675
    """
    return chain(
        scale_by_lion(betas), add_decayed_weights(weight_decay), scale_by_learning_rate(lr)
    )


@explained
def rprop(
    lr: Scalar = 1e-2,
    etas: tuple[Scalar, Scalar] = (0.5, 1.2),
    step_sizes: tuple[Scalar, Scalar] = (1e-6, 50),
) -> GradientTransformation:
    """Rprop: `scale_by_rprop`, downhill.

    The defaults are those of `torch.optim.Rprop`, and so are the steps.

    Raises:
        HyperparameterError: If `etas` are not below and above 1, or another number is negative.

    References:
        Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The
        RPROP Algorithm", ICNN 1993.
    """
    return chain(scale_by_rprop(lr, etas, step_sizes), scale(-1.0))
