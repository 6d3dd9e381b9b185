"""Methods whose slots are those of low-rank projections of the gradients."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, low_rank
from ..transforms import (
    add_decayed_weights,
    clip_by_block_rms,
    limit_norm_growth,
    scale_by_adam,
    scale_by_factored_rms,
    scale_by_learning_rate,
)
from ..typing import Scalar


@explained
def galore_adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    rank: int = 128,
    update_gap: int = 200,
    scale: Scalar = 0.25,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """GaLore: AdamW whose moments are those of gradients projected by `low_rank`, with SVD.

    Matrices whose both dimensions are above `rank` are projected, all others have AdamW. The
    authors' class is for groups with a rank, and adds eps before the bias is corrected. The moments
    are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        rank: The rank of the projections.
        update_gap: The number of updates from one projector to the next.
        scale: Factor of the updates of projected matrices; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML
        2024. https://arxiv.org/abs/2403.03507
    """
    return chain(
        low_rank(scale_by_adam(betas, eps, state_dtype=state_dtype), rank, update_gap, scale),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )


@explained
def galore_adafactor(
    lr: Scalar = 1e-3,
    eps: Scalar = 1e-30,
    clip_threshold: Scalar = 1.0,
    decay_rate: Scalar = -0.8,
    weight_decay: Scalar = 0.0,
    rank: int = 128,
    update_gap: int = 200,
    scale: Scalar = 0.25,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """GaLore with Adafactor: factored second moments of gradients projected by `low_rank`.

    Steps are those of the authors' `GaLoreAdafactor` without `scale_parameter` and `relative_step`,
    as Transformers calls it. The moments are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        eps: Added to the square of the gradient; not negative.
        clip_threshold: Upper bound of the root mean square of an update; positive.
        decay_rate: Power with which the weight of the newest gradient decays; not positive.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        rank: The rank of the projections.
        update_gap: The number of updates from one projector to the next.
        scale: Factor of the updates of projected matrices; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", ICML
        2024. https://arxiv.org/abs/2403.03507
    """
    inner = chain(
        scale_by_factored_rms(decay_rate, eps, add_eps=True, state_dtype=state_dtype),
        clip_by_block_rms(clip_threshold),
    )
    return chain(
        low_rank(inner, rank, update_gap, scale),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )


@explained
def apollo_adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    rank: int = 256,
    update_gap: int = 200,
    scale_factor: Scalar = 1.0,
    scale_by_tensor: bool = False,
    max_growth: Scalar = 1.01,
    seed: int = 0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """APOLLO: gradients, scaled as AdamW of a random low-rank projection would scale them.

    The scale is one for each channel, or for each matrix: APOLLO-Mini is
    ``rank=1, scale_by_tensor=True, scale_factor=128**0.5``. Norms of updates grow by at most 1 % a
    step. Vectors, and matrices with a dimension that is not above `rank`, have AdamW. The moments
    are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        rank: The rank of the projections.
        update_gap: The number of updates from one projector to the next.
        scale_factor: Factor of the updates of projected matrices, the root of the authors' `scale`;
            not negative.
        scale_by_tensor: One scale for each matrix, not for each channel.
        max_growth: Bound of the norm of an update relative to the one before, at least 1.
        seed: Seed of the projections: an integer, not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Zhu et al., "APOLLO: SGD-like Memory, AdamW-level Performance", MLSys 2025.
        https://arxiv.org/abs/2412.05270
    """
    checks.switch("apollo_adamw", "scale_by_tensor", scale_by_tensor)
    projected = low_rank(
        scale_by_adam(betas, eps, state_dtype=state_dtype),
        rank,
        update_gap,
        scale_factor,
        projection="random",
        restore="tensor" if scale_by_tensor else "channel",
        seed=seed,
    )
    return chain(
        projected,
        limit_norm_growth(max_growth),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )


@explained
def fira_adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    rank: int = 128,
    update_gap: int = 200,
    scale: Scalar = 1.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Fira: `galore_adamw`, plus what the projections leave out.

    Which `low_rank` scales, channel by channel, as AdamW scales the projected gradient, and whose
    growth it limits. So updates have full rank, with the slots of GaLore and a number. The authors'
    class corrects the bias behind that limit. The moments are stored in `state_dtype`, else in the
    dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        rank: The rank of the projections.
        update_gap: The number of updates from one projector to the next.
        scale: Factor of what is projected; not negative. What it lacks to 1 is left out too.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Chen et al., "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
        2024. https://arxiv.org/abs/2410.01623
    """
    scaling = scale_by_adam(betas, eps, state_dtype=state_dtype)
    return chain(
        low_rank(scaling, rank, update_gap, scale, residual=True),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(lr),
    )
