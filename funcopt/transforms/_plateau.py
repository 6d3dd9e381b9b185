"""A learning rate that is reduced where the loss stops improving."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import beside, double
from ..typing import Memory, Scalar, Slots


class PlateauMemory(NamedTuple):
    """The shared scalars of `reduce_on_plateau`."""

    scale: Tensor  # (): the factor of the updates
    best_value: Tensor  # (): the lowest mean so far
    avg_value: Tensor  # (): the mean of the values since the last look
    value_count: Tensor  # (), int64: how many these are
    plateau_count: Tensor  # (), int64: looks without an improvement
    cooldown_count: Tensor  # (), int64: looks that are left out


class reduce_on_plateau(TensorRule):
    """Multiplies the updates by a scale that is reduced where `value` stops improving.

        u = scale g

    At every look, which is at every `accumulation_size` values, with their mean:

        mean < best (1 - rtol sign(best)) - atol      ->  best <- mean, plateau <- 0
        else                                              plateau <- plateau + 1
        if plateau = patience, scale <- max(factor scale, min_scale), plateau <- 0, and the next
        `cooldown` looks change no scale and count as no plateau

    `value` is an extra argument, the loss of the step or a metric to be minimized:
    ``update(grads, state, params, value=loss)``, or ``opt.step(value=loss)``, which takes its mean
    over ranks. In an update without it, the scale stays: values may come from an evaluation at
    times. It is part of the state, so of checkpoints, and shown by ``opt.metrics()``.

    The steps are those of `optax.contrib.reduce_on_plateau`; for a negative `best`, `rtol` is a
    share of its size. `ReduceLROnPlateau` of torch fires one look later: its patience is
    ``patience - 1``.

    Args:
        factor: Factor of a reduction, in (0, 1).
        patience: Looks without an improvement until a reduction; positive.
        rtol: Least improvement, as a share of the best value, in [0, 1).
        atol: Least improvement, in units of the value; not negative.
        cooldown: Looks after a reduction that are left out; not negative.
        accumulation_size: Values per look; positive.
        min_scale: Lower bound of the scale, in [0, 1].

    Raises:
        HyperparameterError: If a hyperparameter is out of range; from `update`, if one differs
            between parameter groups.
    """

    factor: Scalar = 0.1
    patience: int = 10
    rtol: Scalar = 1e-4
    atol: Scalar = 0.0
    cooldown: int = 0
    accumulation_size: int = 1
    min_scale: Scalar = 0.0
    elementwise = True
    memory_per = "tree"
    metrics = ("plateau_scale",)

    def __post_init__(self) -> None:
        checks.in_open_unit_interval(self, "factor", self.factor)
        checks.whole_number(self, "patience", self.patience, least=1)
        checks.in_unit_interval(self, "rtol", self.rtol)
        checks.non_negative(self, "atol", self.atol)
        checks.whole_number(self, "cooldown", self.cooldown)
        checks.whole_number(self, "accumulation_size", self.accumulation_size, least=1)
        checks.fraction(self, "min_scale", self.min_scale)

    def init_memory(self, like: Tensor) -> PlateauMemory:
        zero, none = double(like), torch.zeros((), dtype=torch.int64, device=like.device)
        return PlateauMemory(
            zero + 1, zero + torch.inf, zero.clone(), none, none.clone(), none.clone()
        )

    def conclude(
        self, s: Scalars, memory: PlateauMemory, total: Any, *, value: Any = None
    ) -> tuple[dict[str, Any], Memory]:
        new = memory if value is None else self._looked(s, memory, value)
        return {"plateau_scale": new.scale}, new

    def _looked(self, s: Scalars, old: PlateauMemory, value: Any) -> PlateauMemory:
        count = old.value_count + 1
        mean = old.avg_value + (beside(old.avg_value, value) - old.avg_value) / count
        look = count == self.accumulation_size
        improved = mean < old.best_value * (1 - s.rtol * old.best_value.sign()) - s.atol
        plateau = torch.where(improved, 0, old.plateau_count + 1)
        cools = old.cooldown_count > 0
        fires = plateau >= self.patience
        reduced = torch.where(fires, s.factor * old.scale, old.scale)
        scale = torch.where(reduced < s.min_scale, s.min_scale, reduced)
        waits = torch.where(fires, self.cooldown, 0)
        after = PlateauMemory(
            torch.where(cools, old.scale, scale),
            torch.where(improved, mean, old.best_value),
            torch.zeros_like(mean),
            torch.zeros_like(count),
            torch.where(fires | cools, 0, plateau),
            torch.where(cools, old.cooldown_count - 1, waits),
        )
        before = old._replace(avg_value=mean, value_count=count)
        return PlateauMemory(*(torch.where(look, x, y) for x, y in zip(after, before, strict=True)))

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * s.plateau_scale, slots
