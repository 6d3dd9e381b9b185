"""Rprop: a step size for every entry, which grows while the gradient keeps its sign."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import at, where
from ..typing import Memory, Scalar, Slots


class RpropSlots(NamedTuple):
    """The slots of Rprop."""

    prev: Tensor  # like p: the previous gradient, zero where it had changed its sign
    step_size: Tensor  # like p: the step size


class scale_by_rprop(TensorRule):
    """The sign of the gradient, times an adaptive step size for every entry, as in torch.

    Entry by entry, for a gradient g, ``etas = (shrink, grow)`` and ``step_sizes = (low, high)``,
    with step_size = lr and prev = 0 before the first step:

        f = grow   if g prev > 0,   shrink if g prev < 0,   1 if g prev = 0
        step_size <- min(max(step_size f, low), high)
        prev <- g,   but 0 where g prev < 0
        u = sign(prev) step_size

    Only the signs of gradients are used, so they must not be noisy: it is for full batches. u is a
    step, in units of the parameter; `scale(-1.0)` negates it. Shapes: any. Dtypes: slots in
    `state_dtype`, else in that of the parameter.

    Args:
        lr: The initial step size, in units of the parameter; not negative. It is read at the first
            step of a parameter, and later values are not, as in torch.
        etas: Factors by which step sizes shrink, in (0, 1), and grow, above 1.
        step_sizes: Lower and upper bound of the step sizes, in units of the parameter.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The
        RPROP Algorithm", ICNN 1993.
    """

    lr: Scalar = 1e-2
    etas: tuple[Scalar, Scalar] = (0.5, 1.2)
    step_sizes: tuple[Scalar, Scalar] = (1e-6, 50.0)
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.several(self, "etas", self.etas)
        checks.open_interval(self, "etas[0]", self.etas[0], 0, 1)
        checks.open_interval(self, "etas[1]", self.etas[1], 1)
        checks.several(self, "step_sizes", self.step_sizes)
        for i, size in enumerate(self.step_sizes):
            checks.non_negative(self, f"step_sizes[{i}]", size)
        checks.ascending(self, "step_sizes", self.step_sizes)

    def init_tensor(self, p: Tensor) -> RpropSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return RpropSlots(zeros, zeros + at(self.lr, 0))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        # A state may be made before the learning rate is known, as when loading a checkpoint.
        return {
            "kept": where(step == 1, 0.0, 1.0),
            "begun": where(step == 1, self.lr, 0.0),
        }

    def update_tensor(
        self, g: Tensor, slots: RpropSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        (shrink, grow), (low, high) = s.etas, s.step_sizes
        size = s.kept * slots.step_size + s.begun
        agree = g * slots.prev
        size = torch.where(agree > 0, size * grow, torch.where(agree < 0, size * shrink, size))
        size = size.clamp(min=low).clamp(max=high)
        prev = torch.where(agree < 0, 0.0, g)
        return prev.sign() * size, RpropSlots(prev, size)
