"""Learning-rate-free methods."""

import math

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import add_decayed_weights, scale, scale_by_dadapt_adam, scale_by_prodigy
from ..typing import Scalar


@explained
def prodigy(
    lr: Scalar = 1.0,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    beta3: Scalar | None = None,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    growth_rate: Scalar = math.inf,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Prodigy: `scale_by_prodigy`, negated.

    The defaults are those of `prodigyopt.Prodigy`, and so are the steps; with `use_bias_correction`
    they are those of `optax.contrib.prodigy`. Without `decouple`, the decay goes through the
    moments. Leave `lr` at 1, or let a schedule go from 1 to 0; tune by `d_coef`. Slots are stored
    in `state_dtype`, else in the dtype of the parameter, which p0 always has.

    Args:
        lr: Multiplies the estimated learning rate; leave it at 1, or let a schedule decay
            it.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        beta3: Decay rate of the sums of the estimate, in [0, 1); by default the root of
            ``betas[1]``.
        eps: Added to the root of the second moment, in units of the gradient; positive.
        weight_decay: Weight decay; not negative.
        decouple: Use decoupled weight decay; without it, L2 regularization.
        use_bias_correction: Correct the bias of the moments, as in Adam.
        safeguard_warmup: Leave `lr` out of the denominator of the estimate, for a warm-up
            from 0.
        d0: The initial estimate, in units of the parameter; positive, and rather too small.
        d_coef: Multiplies the estimate; positive. Tune this one.
        growth_rate: The largest factor by which the estimate grows in a step; at least 1.
        state_dtype: Storage dtype of the slots but p0; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", ICML
        2024. https://arxiv.org/abs/2306.06101
    """
    checks.switch("prodigy", "decouple", decouple)
    scaling = scale_by_prodigy(
        lr=lr,
        betas=betas,
        beta3=beta3,
        eps=eps,
        weight_decay=weight_decay if decouple else 0.0,
        d0=d0,
        d_coef=d_coef,
        growth_rate=growth_rate,
        use_bias_correction=use_bias_correction,
        safeguard_warmup=safeguard_warmup,
        state_dtype=state_dtype,
    )
    return _downhill(scaling, weight_decay, decouple)


@explained
def dadapt_adamw(
    lr: Scalar = 1.0,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    layer_scale: Scalar = 1.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdamW by D-Adaptation: `scale_by_dadapt_adam`, negated.

    The defaults are those of `dadaptation.DAdaptAdam` with ``decouple=True``, and so are the steps;
    with `use_bias_correction` they are those of `optax.contrib.dadapt_adamw`. Without `decouple`,
    the decay goes through the moments. Leave `lr` at 1, or let a schedule go from 1 to 0. Slots are
    stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Multiplies the estimated learning rate; leave it at 1, or let a schedule decay
            it.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1); the
            second is positive.
        eps: Added to the root of the second moment, in units of the gradient; positive.
        weight_decay: Weight decay; not negative.
        decouple: Use decoupled weight decay; without it, L2 regularization.
        use_bias_correction: Correct the bias of the moments, as in Adam.
        d0: The initial estimate, in units of the parameter; positive, and rather too small.
        growth_rate: The largest factor by which the estimate grows in a step; at least 1.
        layer_scale: Multiplies the steps of a parameter group; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Defazio and Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023.
        https://arxiv.org/abs/2301.07733
    """
    checks.switch("dadapt_adamw", "decouple", decouple)
    scaling = scale_by_dadapt_adam(
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay if decouple else 0.0,
        d0=d0,
        growth_rate=growth_rate,
        layer_scale=layer_scale,
        use_bias_correction=use_bias_correction,
        state_dtype=state_dtype,
    )
    return _downhill(scaling, weight_decay, decouple)


def _downhill(
    scaling: GradientTransformation, weight_decay: Scalar, decouple: bool
) -> GradientTransformation:
    before = () if decouple else (add_decayed_weights(weight_decay),)
    return chain(*before, scaling, scale(-1.0))
