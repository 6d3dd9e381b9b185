"""Methods that reduce the variance of gradients."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    add_decayed_weights,
    add_mars_correction,
    scale_by_adam,
    scale_by_learning_rate,
)
from ..typing import Scalar


@explained
def mars(
    lr: Scalar = 3e-3,
    betas: tuple[Scalar, Scalar] = (0.95, 0.99),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
    gamma: Scalar = 0.025,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """MARS-AdamW: `add_mars_correction`, then AdamW.

    The defaults are those of the official `MARS`, and so are the steps, for all tensors, as with
    its ``optimize_1d=True``. Without that, it applies AdamW to all tensors that are not matrices:
    so does a `partition` into ``mars()`` and ``adamw(3e-3, (0.9, 0.95), weight_decay=0.1)``.

    ``betas[0]`` is also the `momentum` of the correction: in the chain these are two
    hyperparameters, to be set together. A `sweep` of the function `mars` itself does so. The
    moments and the previous gradient are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        amsgrad: Divide by the maximum of the second moments so far.
        gamma: Weight of the variance reduction; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large Models",
        2024. https://arxiv.org/abs/2411.10438
    """
    checks.betas("mars", "betas", betas)
    return chain(
        add_mars_correction(betas[0], gamma=gamma, state_dtype=state_dtype),
        scale_by_adam(betas, eps=eps, amsgrad=amsgrad, state_dtype=state_dtype),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )
