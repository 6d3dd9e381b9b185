"""Adafactor, with second moments factored into rows and columns."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    clip_by_block_rms,
    scale,
    scale_by_factored_rms,
    scale_by_param_block_rms,
    scale_by_relative_step,
)
from ..typing import Scalar


@explained
def adafactor(
    lr: Scalar = 1e-2,
    beta2_decay: Scalar = -0.8,
    eps: tuple[Scalar | None, Scalar] = (None, 1e-3),
    d: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adafactor: `scale_by_factored_rms`, clipped, with a relative, decaying learning rate.

    The defaults are those of `torch.optim.Adafactor`, and so are the steps: ``eps[0]`` bounds the
    root mean squares, ``eps[1]`` the size of a parameter, `d` the root mean square of an update.
    Optax's is made of the same stages with other options ([how](../from_optax.md#adafactor)).
    The second moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: The largest learning rate; not negative. It decays as one over the root of the
            step.
        beta2_decay: Power with which the weight of the newest gradient decays; not
            positive.
        eps: Lower bounds of the root mean square of gradients, and of the size of a
            parameter.
        d: Upper bound of the root mean square of an update; at least 1.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the second moments; by default that of the parameter.

    Raises:
        HyperparameterError: If `beta2_decay` is positive, `d` is not, another
            hyperparameter is negative, or `eps` is not a pair.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018. https://arxiv.org/abs/1804.04235
    """
    checks.several("adafactor", "eps", eps)
    return chain(
        scale_by_factored_rms(beta2_decay, eps[0], state_dtype=state_dtype),
        clip_by_block_rms(d),
        scale_by_param_block_rms(eps[1]),
        scale_by_relative_step(lr, weight_decay),
        scale(-1.0),
    )
