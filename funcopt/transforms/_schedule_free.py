"""The three sequences of Schedule-Free learning: the steps, their average, and the parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import beside, clamp, exact, mix, power, root, where
from ..errors import HyperparameterError
from ..typing import Memory, Scalar, Slots
from ._radam import rectification


class ScheduleFreeSlots(NamedTuple):
    """The slots of Schedule-Free learning."""

    z: Tensor  # like p: the sequence that the updates move
    x: Any  # like p: the average of z; () where it is computed from p and z


class ScheduleFreeMemory(NamedTuple):
    """Its shared scalars."""

    weight_sum: Tensor  # (), float64: of all weights in the average so far
    lr_max: Tensor  # (), float64: the largest learning rate so far
    last_momentum: Tensor  # (), float64: of the last step, by which p lies between z and x


class primal_averaging(TensorRule):
    """Applies the updates to a sequence z, and keeps the parameters between z and its average.

    For an update u, at step t = 1, 2, ..., with z = x = p in the beginning:

        rate = lr min(1, t / warmup_steps) r_t
        z <- z + rate u
        w = t^r (the greatest rate so far)^weight_lr_power,   c = w / (sum of all w so far)
        x <- (1 - c) x + c z
        p <- (1 - momentum) z + momentum x

    with r_t = 1, or, with `rectify`, the r of `scale_by_radam` for its second decay rate, and 0
    while its rho is at most 4: a warm-up that needs no length.

    Gradients are taken at p (y in the paper), z takes the steps, and x are the averaged weights,
    used for evaluation: see `eval_params` and `Optimizer.eval`. `schedule_free` puts this after a
    chain, whose updates have to descend. It has to be the last stage that changes updates.

    x is not stored: it is computed from p and z, with the `momentum` of the last step. But p is
    stored in its own dtype, and in bfloat16 it does not move where steps are small, while z does; x
    then drifts away from the average. So for parameters below float32 take
    ``store_average=True, state_dtype=torch.float32``: z and x are exact then, and p is x and z
    rounded once. A stored x also allows a `momentum` of 0.

    Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        lr: The learning rate: a factor of the updates, which the weights of the average depend on;
            not negative.
        momentum: The weight of x in p, in (0, 1]; at 1, gradients are taken at the average.
        warmup_steps: Updates of linear warm-up, until the learning rate is `lr`; 0 for none.
        r: Power of t in the weights: with r > 0, later steps count more; not negative.
        weight_lr_power: Power of the learning rate in the weights; 0 for equal weights. Not
            negative.
        store_average: Store x, one more tensor per parameter, instead of computing it.
        rectify: Decay rate of the EMA of the squared gradient in the chain before this, in [0, 1),
            whose variance the learning rate is rectified for; `None` for none.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024. https://arxiv.org/abs/2405.15682
    """

    lr: Scalar = 1.0
    momentum: Scalar = 0.9
    warmup_steps: int = 0
    r: Scalar = 0.0
    weight_lr_power: Scalar = 2.0
    store_average: bool = False
    rectify: Scalar | None = None
    state_dtype: torch.dtype | None = None
    elementwise = True
    needs_params = True
    comes_last = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.fraction(self, "momentum", self.momentum)
        checks.whole_number(self, "warmup_steps", self.warmup_steps)
        checks.non_negative(self, "r", self.r)
        checks.non_negative(self, "weight_lr_power", self.weight_lr_power)
        if self.rectify is not None:
            checks.in_unit_interval(self, "rectify", self.rectify)
        if isinstance(self.momentum, (int, float)) and not (self.momentum or self.store_average):
            raise HyperparameterError(
                f"`{type(self).__name__}`: at `momentum` 0 the average cannot be computed from the "
                "parameters: take `store_average=True`."
            )

    def init_tensor(self, p: Tensor) -> ScheduleFreeSlots:
        z = p.to(self.state_dtype or p.dtype, copy=True)
        return ScheduleFreeSlots(z, z.clone() if self.store_average else ())

    def init_memory(self, like: Tensor) -> ScheduleFreeMemory:
        zero = torch.zeros((), dtype=torch.float64)
        return ScheduleFreeMemory(zero, zero.clone(), torch.ones((), dtype=torch.float64))

    def prepare(self, step: Any, memory: ScheduleFreeMemory) -> dict[str, Any]:
        t, rate = exact(step), self.lr
        if isinstance(rate, Tensor):
            rate = beside(memory.lr_max, rate)
        if self.warmup_steps:
            rate = rate * clamp(t / self.warmup_steps, 0.0, 1.0)
        if self.rectify is not None:
            known, ratio = rectification(self.rectify, t, 4)
            rate = rate * where(known, root(ratio), 0.0)
        lr_max = where(memory.lr_max < rate, rate, memory.lr_max)
        weight = power(t, self.r) * power(lr_max, self.weight_lr_power)
        weight_sum = memory.weight_sum + weight
        nothing = weight_sum == 0  # yet: all learning rates were 0
        share = where(nothing, 0.0, weight / where(nothing, 1.0, weight_sum))
        found = {"rate": rate, "share": share, "lr_max": lr_max, "weight_sum": weight_sum}
        return found if self.store_average else {**found, "out": 1 - 1 / memory.last_momentum}

    def conclude(
        self, s: Scalars, memory: ScheduleFreeMemory, total: Any
    ) -> tuple[dict[str, Any], Memory]:
        momentum = 0 * memory.last_momentum + s.momentum  # in its dtype, and on its device
        return {}, ScheduleFreeMemory(s.weight_sum, s.lr_max, momentum)

    def update_tensor(
        self, g: Tensor, slots: ScheduleFreeSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        x = slots.x if self.store_average else mix(p, slots.z, s.out)
        z = slots.z + s.rate * g
        x = mix(x, z, s.share)
        return mix(z, x, s.momentum) - p, ScheduleFreeSlots(z, x if self.store_average else ())

    def eval_tensor(
        self, p: Tensor, slots: ScheduleFreeSlots, memory: ScheduleFreeMemory
    ) -> Tensor:
        x: Tensor = slots.x
        return x if self.store_average else p + (1 - 1 / memory.last_momentum) * (slots.z - p)
