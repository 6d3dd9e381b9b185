"""Variants of Adam."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, lookahead
from ..schedules import half_life_schedule, linear_schedule
from ..transforms import (
    centralize,
    ema,
    scale_by_adam,
    scale_by_adamax,
    scale_by_adan,
    scale_by_ademamix,
    scale_by_adopt,
    scale_by_learning_rate,
    scale_by_learning_rate_and_decay,
    scale_by_radam,
    scale_by_stable_adamw,
)
from ..typing import Scalar
from ._adam import adam
from ._decayed import decayed


@explained
def ademamix(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999),
    alpha: Scalar = 2.0,
    beta3_warmup: int | None = None,
    alpha_warmup: int | None = None,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdEMAMix: `scale_by_ademamix`, with decoupled weight decay.

    Steps and defaults are those of the authors' `AdEMAMix`. `optax.contrib.ademamix` has
    ``alpha = 5``. For trainings of hundreds of thousands of steps the authors warm up `alpha` and
    ``betas[2]`` over all of them. The slots are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the fast EMA of the gradient, of the EMA of its square, and of the
            slow EMA of the gradient, in [0, 1).
        alpha: Weight of the slow EMA; not negative.
        beta3_warmup: Steps over which the half-life of the slow EMA grows from that of the fast
            one, by `half_life_schedule`; `None` for none.
        alpha_warmup: Steps over which `alpha` grows from 0, by `linear_schedule`; `None` for none.
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or, with `beta3_warmup`, is 0; if
            a warm-up is not positive, or another hyperparameter is negative.

    References:
        Pagliardini et al., "The AdEMAMix Optimizer: Better, Faster, Older", ICLR 2025.
        https://arxiv.org/abs/2409.03137
    """
    checks.betas("ademamix", "betas", betas, count=3)
    b1, b2, b3 = betas
    if beta3_warmup is not None:
        checks.steps("ademamix", "beta3_warmup", beta3_warmup)
        b3 = _from_first_step(half_life_schedule, b1, b3, beta3_warmup)
    if alpha_warmup is not None:
        checks.steps("ademamix", "alpha_warmup", alpha_warmup)
        alpha = _from_first_step(linear_schedule, 0.0, alpha, alpha_warmup)
    scaling = scale_by_ademamix((b1, b2, b3), alpha, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def adopt(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.9999),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    clip_exp: Scalar | None = 0.25,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """ADOPT: `scale_by_adopt`, with L2 regularization or decoupled weight decay.

    Steps and defaults are those of the second version of the paper, as in Optax. Decoupled weight
    decay starts with the first step, where the authors' code has none. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the normalized gradient and of the squared gradient, in
            [0, 1).
        eps: Lower bound of the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        decoupled_weight_decay: Use decoupled weight decay instead of L2 regularization.
        clip_exp: Power with which the bound of the normalized gradient grows; not negative. `None`
            for no bound.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate",
        NeurIPS 2024. https://arxiv.org/abs/2411.02853
    """
    checks.switch("adopt", "decoupled_weight_decay", decoupled_weight_decay)
    scaling = scale_by_adopt(betas, eps=eps, clip_exp=clip_exp, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled_weight_decay)


@explained
def adan(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar, Scalar] = (0.98, 0.92, 0.99),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adan: `scale_by_adan`, with decoupled weight decay.

    Defaults are those of the authors' `Adan`, and steps those with its ``no_prox=True``: the
    parameters are multiplied by ``1 - lr weight_decay``, where by default it divides the result by
    ``1 + lr weight_decay``. The slots are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient, of its change and of the square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
        IEEE TPAMI 2024. https://arxiv.org/abs/2208.06677
    """
    scaling = scale_by_adan(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def stable_adamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.99),
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 1e-2,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """StableAdamW: `scale_by_stable_adamw`, which is AdamW with update clipping.

    Steps and defaults are those of `StableAdamW` of optimi; the one of pytorch_optimizer has
    ``eps = 1e-8``. It replaces clipping of gradients. The moments are stored in `state_dtype`, else
    in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; positive.
        weight_decay: Decoupled weight decay, times the learning rate that is left after clipping;
            not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `eps` is not positive, or another
            hyperparameter is negative.

    References:
        Wortsman et al., "Stable and low-precision training for large-scale vision-language models",
        NeurIPS 2023. https://arxiv.org/abs/2304.13013
    """
    return chain(
        scale_by_stable_adamw(betas, eps=eps, weight_decay=weight_decay, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def nadamw(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """NAdamW as in Optax: `scale_by_adam` with Nesterov momentum, with decoupled weight decay.

    Steps and defaults are those of `optax.nadamw`. PyTorch's NAdam with decoupled weight decay,
    whose momentum warms up, is ``nadam(decoupled_weight_decay=True)``. The moments are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
        https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    scaling = scale_by_adam(betas, eps=eps, nesterov=True, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def adamaxw(
    lr: Scalar = 2e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adamax with decoupled weight decay: `scale_by_adamax`, then the decay.

    The steps are those of `optax.adamaxw`, with its `weight_decay`; the other defaults are those of
    `adamax`. The moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMA of the gradient and of the maximum, in [0, 1).
        eps: Added to the absolute value of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, section 7.1.
        https://arxiv.org/abs/1412.6980. Loshchilov and Hutter, "Decoupled Weight Decay
        Regularization", ICLR 2019. https://arxiv.org/abs/1711.05101
    """
    scaling = scale_by_adamax(betas, eps=eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def adamc(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    max_lr: Scalar | None = None,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AdamC: `adamw` with corrected weight decay, proportional to the square of the learning rate.

    As the learning rate decays, the norms of weights in front of normalization layers stay, and so
    do those of their gradients, which with AdamW increase. At a constant learning rate, the steps
    are those of AdamW. The correction is meant for such weights; the paper gives the others plain
    decay, as `partition` does. The moments are stored in `state_dtype`, else in the dtype of the
    parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, times ``lr^2 / max_lr``; not negative.
        max_lr: The largest learning rate of the schedule; positive. By default the largest so far.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `max_lr` is not positive, or another
            hyperparameter is negative.

    References:
        Defazio, "Why Gradients Rapidly Increase Near the End of Training", 2025, Algorithm 1.
        https://arxiv.org/abs/2506.02285
    """
    scaling = scale_by_adam(betas, eps=eps, state_dtype=state_dtype)
    return chain(scaling, scale_by_learning_rate_and_decay(lr, weight_decay, max_lr=max_lr))


@explained
def amsgrad(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """AMSGrad: `adam` with `amsgrad`, which divides by the maximum of the second moments.

    Steps and defaults are those of ``torch.optim.Adam(amsgrad=True)``: the maximum is taken before
    the bias correction, in Optax after it. The moments are stored in `state_dtype`, else in the
    dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Reddi et al., "On the Convergence of Adam and Beyond", ICLR 2018.
        https://arxiv.org/abs/1904.09237
    """
    return adam(lr, betas, eps, weight_decay, amsgrad=True, state_dtype=state_dtype)


@explained
def laprop(
    lr: Scalar = 4e-4,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-15,
    weight_decay: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """LaProp: `scale_by_adam` without a first moment, then `ema` of the normalized gradients.

    While the learning rate is constant, steps and defaults are those of the authors' `LaProp`,
    which decays the parameters after the step instead of before it. There the learning rate is
    inside the EMA; here it multiplies the EMA, so a schedule takes effect at once. Both slots are
    stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the normalized gradient and of the squared gradient, in
            [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Ziyin et al., "LaProp: Separating Momentum and Adaptivity in Adam", 2020.
        https://arxiv.org/abs/2002.04839
    """
    checks.betas("laprop", "betas", betas)
    b1, b2 = betas
    normalized = scale_by_adam((0.0, b2), eps=eps, first_moment=False, state_dtype=state_dtype)
    scaling = chain(normalized, ema(b1, state_dtype=state_dtype))
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def ranger(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.95, 0.999),
    eps: Scalar = 1e-5,
    weight_decay: Scalar = 0.0,
    sync_period: int = 6,
    slow_step_size: Scalar = 0.5,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Ranger: `lookahead` around `centralize` and `scale_by_radam`, with decoupled weight decay.

    The defaults are those of the author's `Ranger`. The slow parameters are the averaged weights,
    used for evaluation: `eval_params`, or `Optimizer.averaged`. The slots are stored in
    `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added outside the root, before the bias correction, in units of the gradient; not
            negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        sync_period: The number of updates from one sync of `lookahead` to the next.
        slow_step_size: The step size of the slow parameters, in [0, 1].
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Wright, "Ranger: a synergistic optimizer", 2019,
        https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer. Liu et al., "On the Variance
        of the Adaptive Learning Rate and Beyond", ICLR 2020. https://arxiv.org/abs/1908.03265
    """
    radam = scale_by_radam(betas, eps=eps, state_dtype=state_dtype)
    inner = decayed(chain(centralize(), radam), weight_decay, lr, decoupled=True)
    return lookahead(inner, sync_period, slow_step_size, state_dtype=state_dtype)


def _from_first_step(
    schedule: type[linear_schedule] | type[half_life_schedule],
    start: Scalar,
    end: Scalar,
    steps: int,
) -> Scalar:
    """The schedule of step 1, 2, ..., where schedules here see 0, 1, ..."""
    if steps == 1:
        return end
    return schedule(schedule(start, end, steps)(1), end, steps - 1)
