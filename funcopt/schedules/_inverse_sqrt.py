"""Inverse square root decay."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import evaluated
from ._warmup import warmed_up


class inverse_sqrt_schedule(ScheduleRecord):
    """Linear warm-up to `peak_value`, then decay by the inverse square root of the step.

        linear_schedule(init_value, peak_value, warmup_steps)(step)   while step < warmup_steps
        peak_value sqrt(timescale / (step - warmup_steps + timescale))   from then on

    It has no end, so the length of the training need not be known. The same as
    `get_inverse_sqrt_schedule` of Transformers; with the default of `timescale`, as in the
    Transformer paper and fairseq, it is ``peak_value sqrt(warmup_steps / step)``.

    Args:
        peak_value: The value at step `warmup_steps`.
        warmup_steps: Steps of the warm-up; 0 for none.
        timescale: Steps in which the decay reaches ``1 / sqrt(2)``; positive. By default
            `warmup_steps`, or 10,000 without a warm-up.
        init_value: The value at step 0. At 0 the first step changes nothing.

    Raises:
        HyperparameterError: If a length is out of range.

    References:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, Equation 3.
        https://arxiv.org/abs/1706.03762
    """

    peak_value: Scalar
    warmup_steps: Length
    timescale: Length | None = None
    init_value: Scalar = 0.0
    drawn_lengths = 4

    def __post_init__(self) -> None:
        checks.number(self, "peak_value", self.peak_value)
        checks.length(self, "warmup_steps", self.warmup_steps)
        if self.timescale is not None:
            checks.steps(self, "timescale", self.timescale)
        checks.number(self, "init_value", self.init_value)

    def __call__(self, step: Any) -> Any:
        step, start, peak = evaluated(step, self.init_value, self.peak_value)
        warmup = exact(self.warmup_steps)
        scale = where(warmup == 0, 10_000, warmup)
        if self.timescale is not None:
            scale = exact(self.timescale)
        after = clamp(step - warmup, 0, math.inf)
        return warmed_up(step, start, peak, warmup, peak * (scale / (after + scale)) ** 0.5)
