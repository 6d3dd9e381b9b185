"""The learning rate together with weight decay that depends on it."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import double, is_zero, where
from ..typing import Memory, Scalar, Slots

DECAYS = ("decoupled", "independent", "corrected", "squared")


class LearningRateMemory(NamedTuple):
    """The shared scalars of `scale_by_learning_rate_and_decay`."""

    max_lr: Tensor  # (): the largest learning rate so far


class scale_by_learning_rate_and_decay(TensorRule):
    """Multiplies the updates by minus the learning rate, with weight decay that depends on it.

        u = -(lr g + k weight_decay p)

    with k by `decay`:

        "decoupled"      k = lr                 AdamW
        "independent"    k = lr / max_lr        the schedule alone scales the decay, not the peak
        "corrected"      k = lr^2 / max_lr      AdamC: the norms of weights stay while lr decays
        "squared"        k = lr^2

    It stands in the place of `scale_by_learning_rate`, so it follows any schedule of `lr`: its own,
    and that of a scheduler of torch in the parameter groups:

        chain(scale_by_adam(), scale_by_learning_rate_and_decay(1e-3, 0.05, "corrected"))

    At a constant learning rate, "corrected" is "decoupled". The correction is meant for weights in
    front of normalization layers; a `partition` gives the others another kind. At a Python number
    ``weight_decay = 0`` the parameters are not needed. Shapes: any.

    Args:
        lr: The learning rate, in units of the parameter per unit of the update; not negative.
        weight_decay: The weight decay; without a unit if it is "independent", else in units of the
            update per unit of the parameter, per learning rate if it is "squared". Not negative.
        decay: What the decay depends on.
        max_lr: The largest learning rate of the schedule; positive. By default the largest so far,
            which is the same from the end of a warm-up on.

    Raises:
        HyperparameterError: If `lr` or `weight_decay` is negative, `max_lr` is not positive, or
            `decay` is none of these words.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
        https://arxiv.org/abs/1711.05101. Defazio, "Why Gradients Rapidly Increase Near the End of
        Training", 2025, https://arxiv.org/abs/2506.02285, for the correction.
    """

    lr: Scalar
    weight_decay: Scalar
    decay: Literal["decoupled", "independent", "corrected", "squared"] = "corrected"
    max_lr: Scalar | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.non_negative(self, "weight_decay", self.weight_decay)
        checks.choice(self, "decay", self.decay, DECAYS)
        if self.max_lr is not None:
            checks.positive(self, "max_lr", self.max_lr)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    @property
    def _remembers(self) -> bool:
        return self.max_lr is None and self.decay in ("independent", "corrected")

    def init_memory(self, like: Tensor) -> Memory:
        if not self._remembers:
            return ()
        return LearningRateMemory(torch.zeros((), dtype=torch.float64))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        lr, most = self.lr, self.max_lr
        if self._remembers:
            most = where(lr > memory.max_lr, lr, memory.max_lr)
        k = lr if self.decay in ("decoupled", "independent") else lr * lr
        if self.decay in ("independent", "corrected"):
            k = k / where(most > 0, most, 1.0)
        return {"minus_lr": -lr, "shrinking": k * self.weight_decay, "most": most}

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[dict[str, Any], Memory]:
        return {}, LearningRateMemory(double(s.most)) if self._remembers else memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        u = g * s.minus_lr
        return u if is_zero(s.weight_decay) else u - s.shrinking * p, slots

    def sign(self) -> int | None:
        return -1
