"""Methods with fewer second moments than entries."""

import torch

from .._core import checks
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..combinators import chain
from ..transforms import (
    clip_by_block_rms,
    scale,
    scale_by_came,
    scale_by_factored_rms,
    scale_by_lazy_adam,
    scale_by_learning_rate,
    scale_by_relative_size,
    scale_by_rowwise_adagrad,
    scale_by_sm3,
)
from ..typing import Scalar
from ._decayed import decayed


@explained
def came(
    lr: Scalar = 2e-4,
    betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999),
    eps: tuple[Scalar, Scalar] = (1e-30, 1e-16),
    weight_decay: Scalar = 0.0,
    clip_threshold: Scalar = 1.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """CAME: `scale_by_came`, with decoupled weight decay.

    Steps and defaults are those of the authors' `CAME`. Instead of the second moment of every
    entry, as of Adam, there are those of rows and columns. The slots are stored in `state_dtype`,
    else in the dtype of the parameter; for bfloat16 parameters take `torch.float32`.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the normalized gradient, of the square of the gradient and
            of that of the residual, in [0, 1).
        eps: What is added to the square of the gradient and to that of the residual; not negative.
        weight_decay: Decoupled weight decay, times the learning rate; not negative.
        clip_threshold: Upper bound of the root mean square of the normalized gradient; positive.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `clip_threshold` is not positive,
            `eps` is not a pair, or another hyperparameter is negative.

    References:
        Luo et al., "CAME: Confidence-guided Adaptive Memory Efficient Optimization", ACL 2023.
        https://arxiv.org/abs/2307.02047
    """
    checks.several("came", "eps", eps)
    scaling = scale_by_came(betas, *eps, clip_threshold=clip_threshold, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=True)


@explained
def sm3(
    lr: Scalar = 0.1,
    momentum: Scalar = 0.9,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    *,
    beta2: Scalar | None = None,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """SM3: `scale_by_sm3`, with L2 regularization.

    Steps and defaults are those of `optax.sm3`, which has no `eps`, no decay, and no default for
    the learning rate. The slots are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        momentum: Decay rate of the EMA of the normalized gradient, in [0, 1).
        eps: Added inside the root, in units of the gradient squared; not negative.
        weight_decay: Weight decay, added to the gradient (L2 regularization); not negative.
        beta2: Decay rate of the accumulators, in [0, 1); `None` for sums.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Anil et al., "Memory-Efficient Adaptive Optimization", NeurIPS 2019.
        https://arxiv.org/abs/1901.11150
    """
    scaling = scale_by_sm3(momentum, beta2, eps, state_dtype=state_dtype)
    return decayed(scaling, weight_decay, lr, decoupled=False)


@explained
def t5_adafactor(
    lr: Scalar = 1.0,
    eps: tuple[Scalar, Scalar] = (1e-30, 1e-3),
    clip_threshold: Scalar = 1.0,
    decay_rate: Scalar = -0.8,
    beta1: Scalar | None = None,
    weight_decay: Scalar = 0.0,
    scale_parameter: bool = True,
    relative_step: bool = True,
    warmup_init: bool = False,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Adafactor of T5, as in Transformers and fairseq: `adafactor` with other end and epsilons.

    Arguments, defaults and steps are those of `transformers.Adafactor`, but for `lr`: there it has
    to be `None` with `relative_step`, here it multiplies the relative step, so that a scheduler
    has something to change. With ``relative_step=False`` it is the learning rate. The stages are
    `scale_by_factored_rms`, `clip_by_block_rms` and `scale_by_relative_size`. The slots are stored
    in `state_dtype`, else in the dtype of the parameter; Transformers stores them in float32.

    Args:
        lr: Factor of the relative step, or the learning rate; not negative.
        eps: What is added to the square of the gradient, and the lower bound of the size of a
            parameter; not negative.
        clip_threshold: Upper bound of the root mean square of an update; positive.
        decay_rate: Power with which the weight of the newest gradient decays; not positive.
        beta1: Decay rate of an EMA of the updates, in [0, 1); `None` for none.
        weight_decay: Decoupled weight decay, times the learning rate and the size of the parameter;
            not negative.
        scale_parameter: Multiply the learning rate by the size of the parameter.
        relative_step: Let the learning rate fall with the root of the step.
        warmup_init: Let it rise from 1e-6 until then.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, `eps` is not a pair, or
            `warmup_init` is set without `relative_step`.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018. https://arxiv.org/abs/1804.04235. Raffel et al., "Exploring the Limits of Transfer
        Learning with a Unified Text-to-Text Transformer", JMLR 2020.
    """
    checks.several("t5_adafactor", "eps", eps)
    return chain(
        scale_by_factored_rms(decay_rate, eps[0], add_eps=True, state_dtype=state_dtype),
        clip_by_block_rms(clip_threshold),
        scale_by_relative_size(
            lr,
            eps[1],
            weight_decay,
            beta1,
            scale_parameter=scale_parameter,
            relative_step=relative_step,
            warmup_init=warmup_init,
            state_dtype=state_dtype,
        ),
        scale(-1.0),
    )


@explained
def rowwise_adagrad(
    lr: Scalar = 1e-2,
    eps: Scalar = 1e-8,
    initial_accumulator_value: Scalar = 0.0,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Row-wise Adagrad, for embeddings: `scale_by_rowwise_adagrad`, with a learning rate.

    Steps are those of FBGEMM's and TorchRec's exact row-wise Adagrad: one number for each row, and
    a row without gradient is not moved. The sums are stored in `state_dtype`, else in the dtype of
    the parameter.

    Args:
        lr: Learning rate; not negative.
        eps: Added to the root, in units of the gradient; not negative.
        initial_accumulator_value: The sum of each row in the beginning; not negative.
        state_dtype: Storage dtype of the sums; by default that of the parameter.

    Raises:
        HyperparameterError: If a hyperparameter is negative.

    References:
        Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep
        Learning Recommendation Models", ISCA 2022. https://arxiv.org/abs/2104.05158
    """
    return chain(
        scale_by_rowwise_adagrad(eps, initial_accumulator_value, state_dtype=state_dtype),
        scale_by_learning_rate(lr),
    )


@explained
def lazy_adam(
    lr: Scalar = 1e-3,
    betas: tuple[Scalar, Scalar] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    *,
    state_dtype: torch.dtype | None = None,
) -> GradientTransformation:
    """Lazy Adam, for embeddings: `scale_by_lazy_adam`, which leaves rows without gradient alone.

    Steps and defaults are those of `torch.optim.SparseAdam`, for dense gradients that have rows of
    zeros. The moments are stored in `state_dtype`, else in the dtype of the parameter.

    Args:
        lr: Learning rate; not negative.
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots; by default that of the parameter.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), or another hyperparameter is
            negative.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
        https://arxiv.org/abs/1412.6980
    """
    return chain(
        scale_by_lazy_adam(betas, eps, state_dtype=state_dtype), scale_by_learning_rate(lr)
    )
