"""AdamW of gradients whose slow part is amplified."""

import torch

from .._core.functions import identity
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, weighted_sum
from ..transforms import (
    add_decayed_weights,
    clip_by_block_norm,
    ema,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)
from ..typing import Scalar


@explained
def grokfast_adamw(
    lr: Scalar = 1e-4,
    betas: tuple[Scalar, Scalar] = (0.9, 0.99),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    alpha: Scalar = 0.98,
    lamb: Scalar = 2.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """GrokFast-EMA: AdamW of the gradient plus `lamb` times an EMA of it.

    The EMA begins with the first gradient. Defaults are those of `GrokFastAdamW` of
    `pytorch_optimizer`, which also divides the learning rate by ``1 + lamb`` unless
    ``normalize_lr=False``, and has `eps` as the lower bound of the denominator. Slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        alpha: Decay rate of the EMA that is added, in [0, 1).
        lamb: Factor of it.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter but `lamb`
            is negative.

    References:
        Lee et al., "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", 2024.
        https://arxiv.org/abs/2405.20233
    """
    slow = trace(alpha, dampening=alpha, state_dtype=state_dtype)
    return chain(*_amplified(slow, lamb, lr, betas, eps, weight_decay, state_dtype))


@explained
def grokadamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    alpha: Scalar = 0.98,
    lamb: Scalar = 2.0,
    gradient_clipping: Scalar | None = 1.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """GrokAdamW: AdamW of clipped gradients plus `lamb` times an EMA of them.

    It is AdamW of ``g + lamb * slow``, with ``slow = alpha * slow + (1 - alpha) * g``. Before that,
    each gradient ``g`` is clipped by its own norm, as by `clip_by_block_norm`. Unlike that of
    `grokfast_adamw`, the EMA begins at zero, without bias correction. Defaults are those of the
    author's `GrokAdamW`, which adds `eps` to the root before its bias is corrected; here that is
    ``eps=lambda t: 1e-8 / (1 - 0.999 ** (t + 1)) ** 0.5``. Slots are stored in `state_dtype`, else
    in the dtype of the parameter.

    Two options of the author are none here. `gamma` lets ``betas[0]`` fall from tensor to tensor:
    give parameter groups `betas` of their own. Their bias is corrected with these, not with those
    of the first tensor. The grokking signals lower `alpha`: set it in `param_groups`, or pass a
    schedule.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        alpha: Decay rate of the EMA that is added, in [0, 1).
        lamb: Factor of it.
        gradient_clipping: Upper bound of the norm of the gradient of one tensor, in units of the
            gradient; positive. `None` for no clipping, in all groups.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `gradient_clipping` is not positive,
            or another hyperparameter but `lamb` is negative.

    References:
        Hartford, "GrokAdamW: A PyTorch Optimizer for Accelerated Grokking", 2024.
        https://pypi.org/project/grokadamw
    """
    slow = ema(alpha, debias=False, state_dtype=state_dtype)
    clipping = () if gradient_clipping is None else (clip_by_block_norm(gradient_clipping),)
    amplified = _amplified(slow, lamb, lr, betas, eps, weight_decay, state_dtype)
    return chain(*clipping, *amplified)


def _amplified(
    slow: GradientTransformation,
    lamb: Scalar,
    lr: Scalar,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    weight_decay: Scalar,
    state_dtype: torch.dtype | None,
) -> list[GradientTransformation]:
    """The stages of AdamW, of the gradient plus `lamb` times what is `slow` in it."""
    return [
        weighted_sum((identity(), slow), (1.0, lamb)),
        scale_by_adam(betas, eps, state_dtype=state_dtype),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    ]
