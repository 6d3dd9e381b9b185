"""Schedule-Free learning, around SGD and Adam."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain, schedule_free
from ..transforms import add_decayed_weights, scale, scale_by_adam
from ..typing import Scalar


@explained
def schedule_free_sgd(
    lr: Scalar = 1.0,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    warmup_steps: int = 0,
    r: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    *,
    store_average: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Schedule-Free SGD: `schedule_free` around plain gradient descent, with weight decay.

    Steps and defaults are those of the authors' `SGDScheduleFree`. For the arguments, and for
    parameters in bfloat16, see `schedule_free`.

    Args:
        lr: Learning rate, which the weights of the average depend on; not negative.
        momentum: How near the trained parameters are to the average, in (0, 1].
        weight_decay: Weight decay of the trained parameters; not negative.
        warmup_steps: Updates of linear warm-up; 0 for none.
        r: Power of the step count in the weights of the average; not negative.
        weight_lr_power: Power of the learning rate in the weights of the average; not
            negative.
        store_average: Store the average, one more tensor per parameter, instead of
            computing it.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682
    """
    return schedule_free(
        chain(add_decayed_weights(weight_decay), scale(-1.0)),
        lr,
        momentum,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
        store_average=store_average,
        state_dtype=state_dtype,
    )


@explained
def schedule_free_adamw(
    lr: Scalar = 2.5e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    warmup_steps: int = 0,
    r: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    inner_momentum: Scalar | None = None,
    *,
    store_average: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Schedule-Free AdamW: `schedule_free` around `scale_by_adam`, with decoupled weight decay.

    With m and v of `scale_by_adam`, whose betas are ``(inner_momentum, betas[1])``, the update

        u = -(m / (sqrt(v) + eps) + weight_decay p)

    moves z, x and p as `primal_averaging` has it, with ``momentum = betas[0]``.

    Steps, defaults and slots are those of the authors' `AdamWScheduleFree`, release 1.3 and later:
    the bias correction is in the denominator, and averaging weights and decay use the plain
    learning rate. For the other arguments, and for bfloat16, see `schedule_free`.

    `inner_momentum` is as in the authors' code since May 2026, which recommends 0.9 where there is
    one. It is a number in [0, 1), a 0-d tensor, or a schedule. With `None`, where theirs has 0,
    m = g: there is no EMA of the gradient, and no slot for it. So either all parameter groups of an
    optimizer have one, or none; where all get one later, the EMA starts at 0.

    Args:
        lr: Learning rate, which the weights of the average depend on; not negative.
        betas: Nearness of the trained parameters to the average, in (0, 1], and decay rate
            of the EMA of the squared gradient, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay of the trained parameters; not negative.
        warmup_steps: Updates of linear warm-up; 0 for none.
        r: Power of the step count in the weights of the average; not negative.
        weight_lr_power: Power of the learning rate in the weights of the average; not
            negative.
        inner_momentum: Decay rate of an EMA of the gradient inside, in [0, 1), as described
            above; `None` for none.
        store_average: Store the average, one more tensor per parameter, instead of
            computing it.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682
    """
    checks.several("schedule_free_adamw", "betas", betas)
    momentum, beta2 = betas
    inner = 0.0 if inner_momentum is None else inner_momentum
    return schedule_free(
        chain(
            scale_by_adam(
                (inner, beta2),
                eps=eps,
                first_moment=inner_momentum is not None,
                state_dtype=state_dtype,
            ),
            add_decayed_weights(weight_decay),
            scale(-1.0),
        ),
        lr,
        momentum,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
        store_average=store_average,
        state_dtype=state_dtype,
    )


@explained
def schedule_free_radam(
    lr: Scalar = 2.5e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    r: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    *,
    store_average: bool = False,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Schedule-Free RAdam: `schedule_free_adamw` with a rectified learning rate, without warm-up.

    Steps, defaults and slots are those of the authors' `RAdamScheduleFree` with its default
    ``silent_sgd_phase=True``: the learning rate is multiplied by the r of `scale_by_radam`, and 0
    in the first steps, until its rho is above 4; then it is rectified, which the weights of the
    average see. So there is no warm-up to choose. For the other arguments, and for bfloat16, see
    `schedule_free`.

    Args:
        lr: Learning rate, which the weights of the average depend on; not negative.
        betas: Nearness of the trained parameters to the average, in (0, 1], and decay rate
            of the EMA of the squared gradient, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        weight_decay: Weight decay of the trained parameters; not negative.
        r: Power of the step count in the weights of the average; not negative.
        weight_lr_power: Power of the learning rate in the weights of the average; not
            negative.
        store_average: Store the average, one more tensor per parameter, instead of
            computing it.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682.
        Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020.
        https://arxiv.org/abs/1908.03265
    """
    checks.several("schedule_free_radam", "betas", betas)
    momentum, beta2 = betas
    return schedule_free(
        chain(
            scale_by_adam((0.0, beta2), eps, first_moment=False, state_dtype=state_dtype),
            add_decayed_weights(weight_decay),
            scale(-1.0),
        ),
        lr,
        momentum,
        r=r,
        weight_lr_power=weight_lr_power,
        store_average=store_average,
        rectify=beta2,
        state_dtype=state_dtype,
    )
