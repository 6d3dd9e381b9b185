"""Schedule-Free learning, around any chain."""

import torch

from .._core.compact import in_message
from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..errors import HyperparameterError
from ..transforms import primal_averaging, scale_by_learning_rate
from ..typing import Scalar
from ._chain import chain
from ._hyperparams import walk


@explained
def schedule_free(
    inner: GradientTransformation,
    lr: Scalar = 1.0,
    momentum: Scalar = 0.9,
    *,
    warmup_steps: int = 0,
    r: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    store_average: bool = False,
    rectify: Scalar | None = None,
    state_dtype: torch.dtype | None = None,
) -> chain:
    """Averages the iterates of `inner` instead of decaying its learning rate.

        tx = schedule_free(chain(clip_by_global_norm(1.0), scale_by_rms(0.999), scale(-1.0)), 2e-3)

    The same as `inner` followed by `primal_averaging`, which has the formula. The updates of
    `inner`, times `lr`, move a sequence z; the trained parameters lie between z and its average x,
    the averaged weights, used for evaluation: `eval_params` in the pure form; in an optimizer
    ``opt.eval()``, then ``opt.train()``, or ``with opt.averaged():``.

    `inner` needs no momentum and no learning rate of its own: a schedule belongs into `lr`, which
    the weights of the average depend on. With both, updates would be multiplied by both, so one has
    to be 1. Its weight decay is that of the trained parameters.

    Args:
        inner: A transformation whose updates descend.
        lr: The learning rate: a factor of the updates, which the weights of the average depend on;
            not negative.
        momentum: The weight of x in the trained parameters, in (0, 1]; with `store_average` it may
            be 0.
        warmup_steps: Updates of linear warm-up, until the learning rate is `lr`; 0 for none.
        r: Power of the step in the weights: with r > 0, later steps count more; not negative.
        weight_lr_power: Power of the learning rate in the weights; 0 for equal weights. Not
            negative.
        store_average: Store x, one more tensor per parameter, instead of computing it.
        rectify: Decay rate of the EMA of the squared gradient of `inner`, in [0, 1), whose variance
            the learning rate is rectified for, as in RAdam; `None` for none.
        state_dtype: Storage dtype of z and x, else that of the parameter; for bfloat16 parameters
            take `torch.float32` and `store_average`.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, `inner` is not a transformation,
            or `inner` has a learning rate too.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682
    """
    averaging = primal_averaging(
        lr,
        momentum,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
        store_average=store_average,
        rectify=rectify,
        state_dtype=state_dtype,
    )
    made = chain(inner, averaging)
    if not _is_one(lr):
        _check_rates(inner, lr)
    return made


def _check_rates(inner: GradientTransformation, lr: Scalar) -> None:
    """Refuses a learning rate of `inner`, by which that of the average would be multiplied."""
    for _, node in walk(inner):
        if "lr" in node.hyperparameters and not _is_one(node.lr):  # type: ignore[attr-defined]
            remedy = "give `lr` alone, and leave out that of `inner`"
            if isinstance(node, scale_by_learning_rate):
                remedy = "put `scale(-1.0)` in its place, and give `lr` alone"
            raise HyperparameterError(
                f"`schedule_free`: `{type(node).__name__}` inside has `lr={in_message(node.lr)}`, "  # type: ignore[attr-defined]
                f"and `schedule_free` has `lr={in_message(lr)}`: updates would be multiplied by "
                f"both. In `inner`, {remedy}."
            )


def _is_one(lr: Scalar) -> bool:
    return isinstance(lr, (int, float)) and lr == 1
