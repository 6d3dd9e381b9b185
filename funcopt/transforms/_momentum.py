"""Momentum: decayed sums and averages of past updates."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, is_unset, is_zero, mix, unset_like
from ..errors import StructureError
from ..typing import Memory, Scalar, Slots


class TraceSlots(NamedTuple):
    """The slots of `trace`."""

    momentum_buffer: Any  # like p: decayed sum of past updates; () where momentum is 0


class trace(TensorRule):
    """Momentum: replaces the updates by a decayed sum of past ones.

    For an update g:

        b <- momentum b + (1 - dampening) g,   but b <- g where nothing was added to b before
        u  = b,   or with nesterov   u = g + momentum b

    The rule of `torch.optim.SGD`, its first step included. With a Python number 0 for `momentum`
    there is no buffer, and u = g.

    Shapes: any. Dtypes: `momentum_buffer` in `state_dtype`, else in that of the parameter.

    Args:
        momentum: Decay rate of the sum; not negative, and below 1 in practice.
        dampening: The fraction of a new update that is left out, from the second step on.
        nesterov: Use Nesterov momentum: add the momentum of the next step.
        state_dtype: Storage dtype of the buffer, e.g. `torch.bfloat16` to save memory.

    Raises:
        HyperparameterError: If `momentum` is negative.
        StructureError: If `momentum` was 0 at `init` and no longer is.

    References:
        Sutskever et al., "On the importance of initialization and momentum in deep learning",
        ICML 2013. https://proceedings.mlr.press/v28/sutskever13.html
    """

    momentum: Scalar
    dampening: Scalar = 0.0
    nesterov: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "momentum", self.momentum)
        checks.number(self, "dampening", self.dampening)

    def init_tensor(self, p: Tensor) -> TraceSlots:
        if is_zero(self.momentum):
            return TraceSlots(())
        return TraceSlots(unset_like(p, self.state_dtype))

    def update_tensor(
        self, g: Tensor, slots: TraceSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        if isinstance(slots.momentum_buffer, tuple):
            if is_zero(s.momentum):
                return g, slots
            raise StructureError(
                "`trace`: the state was made with a momentum of 0 and has no buffer; call "
                "`init(params)` with the new momentum."
            )
        old = slots.momentum_buffer
        if is_zero(s.dampening):
            buffer = s.momentum * old + g
        else:  # whenever momentum begins, also if it was 0 before
            later = s.momentum * old + (1 - s.dampening) * g
            buffer = torch.where(is_unset(old), g, later) + 0.0
        return g + s.momentum * buffer if self.nesterov else buffer, TraceSlots(buffer)


class EmaSlots(NamedTuple):
    """The slots of `ema`."""

    ema: Tensor  # like p: EMA of the updates, from zero on


class ema(TensorRule):
    """Replaces the updates by their exponential moving average.

        m <- decay m + (1 - decay) g
        u  = m / (1 - decay^t),   or without debias   u = m

    The state has no bias correction. Shapes: any. Dtypes: `ema` in `state_dtype`, else as the
    parameter.

    Args:
        decay: Decay rate of the EMA, in [0, 1): it averages over about 1 / (1 - decay) steps.
        debias: Apply the bias correction, without which the first updates are too small.
        state_dtype: Storage dtype of the EMA.

    Raises:
        HyperparameterError: If `decay` is outside [0, 1).
    """

    decay: Scalar
    debias: bool = True
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "decay", self.decay)

    def init_tensor(self, p: Tensor) -> EmaSlots:
        return EmaSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        weight = bias_correction(self.decay, step) if self.debias else 1.0
        return {"weight": 1 - self.decay, "correction": weight}

    def update_tensor(
        self, g: Tensor, slots: EmaSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean = mix(slots.ema, g, s.weight)
        return mean / s.correction, EmaSlots(mean)
