"""Schedule-Free learning, around any chain."""

from typing import Any

from .._core.tensor_rule import GradientTransformation
from .._hints.calls import explained
from ..transforms import primal_averaging
from ..typing import Scalar
from ._chain import chain


@explained
def schedule_free(
    inner: GradientTransformation, lr: Scalar = 1.0, momentum: Scalar = 0.9, **options: Any
) -> chain:
    """Averages the steps of `inner` instead of letting them shrink: no schedule, no last step.

        tx = schedule_free(chain(clip_by_global_norm(1.0), scale_by_rms(0.999), scale(-1.0)), 2e-3)

    The same as ``chain(inner, primal_averaging(lr, momentum, **options))``, which see for
    formula and options. The steps of `inner`, times `lr`, move a sequence z; the parameters that
    are trained lie between z and its mean x, which is what to evaluate: `eval_params` in the pure
    form; in an optimizer ``opt.eval()``, then ``opt.train()``, or ``with opt.averaged():``.

    `inner` needs no momentum of its own, and no rate: one that changes belongs into `lr`, where the
    weights of the mean see it. Its weight decay sees the parameters that are trained.

    Raises:
        HyperparameterError: If a number is out of range, or `inner` is no transformation.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682
    """
    return chain(inner, primal_averaging(lr, momentum, **options))
