"""Scion: steepest descent in a norm of each layer's own."""

from typing import Literal

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import Labels, chain, partition
from ..transforms import (
    add_decayed_weights,
    ema,
    orthogonalize,
    scale,
    scale_by_learning_rate,
    scale_by_lmo,
)
from ..typing import Coefficients, Normalization, Ratio, Scalar
from ._hidden import hidden_weights


@explained
def scion(
    lr: Scalar = 1e-3,
    momentum: Scalar = 0.9,
    radius: Scalar = 50.0,
    other_radius: Scalar = 3000.0,
    vector_radius: Scalar = 1.0,
    constrained: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: Ratio | None = "rms_to_rms",
    *,
    other_norm: Literal["sign", "column", "row", "embedding"] = "sign",
    dims: Literal["batch", "flatten"] | None = None,
    ns_dtype: torch.dtype | None = torch.bfloat16,
    normalization: Normalization = "clamp",
    safety_factor: Scalar = 1.0,
    block_sizes: int | tuple[int, ...] | None = None,
    ns_method: Literal["standard", "gram"] = "standard",
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Scion: steps towards the lowest point of a ball, of the norm that fits the layer.

    A `partition` of three, each an EMA of the gradient, a direction of unit norm, and a radius:

        "hidden"  matrices of hidden layers: `orthogonalize`
        "other"   other matrices, such as embeddings and heads: `scale_by_lmo` of `other_norm`
        "vector"  vectors, such as biases and gains of norms: ``scale_by_lmo("rms")``

    Where it is `constrained`, ``p <- (1 - lr) p - lr radius U``, which stays in the ball: the
    learning rate needs no weight decay beside it. Else it is ``p <- p - lr radius U``.

    The radii are those that the authors give for a transformer with 768 dimensions whose embeddings
    share the weight of the head; that of vectors is ours. Their `momentum` is the weight of the new
    gradient: 0.1 there is 0.9 here. Their ratio of convolutions is that of "rms_to_rms" over the
    root of the kernel's size.

    Args:
        lr: The learning rate.
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        radius: The radius of hidden layers.
        other_radius: The radius of other matrices.
        vector_radius: The radius of vectors.
        constrained: Decay parameters by the learning rate, so that they stay in the ball.
        ns_coefficients: Coefficients of the Newton-Schulz iteration, as in `orthogonalize`.
        eps: Lower bound of the norm in the denominator.
        ns_steps: The number of iterations.
        adjust_lr_fn: How the update of a hidden layer depends on its shape.
        other_norm: The norm of other matrices, as in `scale_by_lmo`.
        dims: What the matrices of a tensor of more than two dimensions are; without it, such
            tensors are among the other matrices.
        ns_dtype: The dtype of the iteration.
        normalization: How a matrix is divided by its norm.
        safety_factor: A factor of that norm; positive.
        block_sizes: The number of rows of each block of every hidden matrix, or of all blocks.
        ns_method: How iterations are made, one by one or two at once with fewer products.
        labels: Which parameters are "hidden", "other" or "vector", as `partition` takes it; by
            default by name and shape, as `hidden_weights` tells.
        state_dtype: Storage dtype of the EMA, else that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or a name is unknown.
        LeafError: If a parameter does not fit its label.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Pethick et al., "Training Deep Learning Models with Norm-Constrained LMOs", 2025.
        https://arxiv.org/abs/2502.07529
    """
    checks.switch("scion", "constrained", constrained)

    def steps(direction: GradientTransformation, radius: Scalar) -> GradientTransformation:
        return chain(
            ema(momentum, debias=False, state_dtype=state_dtype),
            direction,
            scale(radius),
            *([add_decayed_weights(1.0)] if constrained else []),
            scale_by_learning_rate(lr),
        )

    spectral = orthogonalize(
        ns_coefficients,
        eps=eps,
        ns_steps=ns_steps,
        adjust_lr_fn=adjust_lr_fn,
        dims=dims,
        ns_dtype=ns_dtype,
        normalization=normalization,
        safety_factor=safety_factor,
        block_sizes=block_sizes,
        ns_method=ns_method,
    )
    by_role = hidden_weights(dims, "hidden", "other", "vector") if labels is None else labels
    return partition(
        {
            "hidden": steps(spectral, radius),
            "other": steps(scale_by_lmo(other_norm), other_radius),
            "vector": steps(scale_by_lmo("rms"), vector_radius),
        },
        by_role,
    )
