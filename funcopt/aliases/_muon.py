"""Muon for the matrices of hidden layers, with AdamW for all other parameters."""

from collections.abc import Sequence
from typing import Literal

import torch

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import Labels, chain, partition
from ..transforms import add_decayed_weights, scale_by_learning_rate, scale_by_muon
from ..typing import Coefficients, Normalization, Ratio, Scalar
from ._adam import adamw
from ._hidden import hidden_weights


@explained
def muon(
    lr: Scalar = 1e-3,
    weight_decay: Scalar = 0.1,
    momentum: Scalar = 0.95,
    nesterov: bool = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: Ratio | None = None,
    *,
    dims: Literal["batch", "flatten"] | None = None,
    ns_dtype: torch.dtype | None = torch.bfloat16,
    normalization: Normalization = "clamp",
    safety_factor: Scalar = 1.0,
    block_sizes: int | tuple[int, ...] | None = None,
    ns_method: Literal["standard", "gram"] = "standard",
    adamw_lr: Scalar = 1e-3,
    adamw_betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    adamw_eps: Scalar = 1e-8,
    adamw_weight_decay: Scalar = 1e-2,
    labels: Labels | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Muon for the matrices of hidden layers, AdamW for embeddings, heads, norms and biases.

    A `partition` with the labels "muon", which is `scale_by_muon` with decoupled weight decay, and
    "adamw". Defaults and steps of the first are those of `torch.optim.Muon`, those of the other of
    `torch.optim.AdamW`. In an optimizer each label is a parameter group with its own learning rate:

        opt = optim.Muon(model.named_parameters(), lr=0.02, adamw_lr=3e-4)
        print(optim.explain(opt))

    With ``adjust_lr_fn="match_rms_adamw"`` one learning rate fits both, as in Moonlight.
    `orthogonalize` lists the sets of coefficients and the ratios.

    Args:
        lr: The learning rate of Muon.
        weight_decay: The weight decay of Muon; not negative.
        momentum: As in `scale_by_muon`, and so are the others up to `ns_method`.
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the Newton-Schulz iteration.
        eps: Lower bound of the norm in the denominator.
        ns_steps: The number of iterations.
        adjust_lr_fn: How the update depends on the shape.
        dims: What the matrices of a tensor of more than two dimensions are, such as "flatten" for
            convolutions. Without it AdamW takes those tensors.
        ns_dtype: The dtype of the iteration.
        normalization: How a matrix is divided by its norm, as in `orthogonalize`.
        safety_factor: A factor of that norm; positive.
        block_sizes: The number of rows of each block of every matrix, or of all blocks; `None` is
            one block.
        ns_method: How iterations are made, one by one or two at once with fewer products.
        adamw_lr: The learning rate of AdamW.
        adamw_betas: Its decay rates.
        adamw_eps: Its epsilon.
        adamw_weight_decay: Its weight decay.
        labels: Which parameters are "muon" and which "adamw", as `partition` takes it; by default
            ``hidden_weights(dims)``, by name and shape. ``labels="muon"`` is torch's Muon.
        state_dtype: Storage dtype of the moments of both, else that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or a name is unknown.
        LeafError: If a parameter that is labeled "muon" is not made of matrices, or of such blocks.
        LabelError: If `labels` do not fit the parameters; without `labels`, if these have no names.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
        https://kellerjordan.github.io/posts/muon/
    """
    scaling = scale_by_muon(
        momentum,
        nesterov=nesterov,
        ns_coefficients=ns_coefficients,
        eps=eps,
        ns_steps=ns_steps,
        adjust_lr_fn=adjust_lr_fn,
        dims=dims,
        ns_dtype=ns_dtype,
        normalization=normalization,
        safety_factor=safety_factor,
        block_sizes=block_sizes,
        ns_method=ns_method,
        state_dtype=state_dtype,
    )
    options = (adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay)
    return beside_adamw([scaling], lr, weight_decay, options, state_dtype, dims, labels)


def beside_adamw(
    stages: Sequence[GradientTransformation],
    lr: Scalar,
    weight_decay: Scalar,
    options: tuple[Scalar, tuple[Scalar, Scalar], Scalar, Scalar],
    state_dtype: torch.dtype | None,
    dims: Literal["batch", "flatten"] | None,
    labels: Labels | None,
) -> GradientTransformation:
    """Stages for the matrices of hidden layers, and AdamW with its `options` for the others."""
    matrices = chain(*stages, add_decayed_weights(weight_decay), scale_by_learning_rate(lr))
    others = adamw(*options, state_dtype=state_dtype)
    return partition(
        {"muon": matrices, "adamw": others}, hidden_weights(dims) if labels is None else labels
    )
