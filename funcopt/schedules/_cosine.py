"""Cosine decay, once or with restarts."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, floor, log, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, half_cosine, progress


class cosine_decay_schedule(ScheduleRecord):
    """Cosine decay from `init_value` to `end_value`, then constant.

    With x = step / decay_steps, not above 1:

        end_value + (init_value - end_value) (1 + cos(pi x)) / 2

    The same as `torch.optim.lr_scheduler.CosineAnnealingLR` up to its `T_max`, after which that
    rises again; and as Optax's `cosine_decay_schedule` with ``end_value = alpha init_value``.

    Args:
        init_value: The value at step 0.
        decay_steps: Steps of the decay; positive.
        end_value: The value from then on.

    Raises:
        HyperparameterError: If `decay_steps` is not positive.

    References:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
        Equation 5. https://arxiv.org/abs/1608.03983
    """

    init_value: Scalar
    decay_steps: Length
    end_value: Scalar = 0.0

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.steps(self, "decay_steps", self.decay_steps)
        checks.number(self, "end_value", self.end_value)

    def __call__(self, step: Any) -> Any:
        step, start, end = evaluated(step, self.init_value, self.end_value)
        return between(start, end, half_cosine(progress(step, 0, self.decay_steps)))


class cosine_restarts_schedule(ScheduleRecord):
    """Cosine decay from `init_value` to `end_value`, restarted after each cycle.

    The first cycle has `first_decay_steps` steps, every further one `t_mult` times as many. With x
    the fraction of its cycle that has passed at a step:

        end_value + (init_value - end_value) (1 + cos(pi x)) / 2

    The same as `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`. `end_value` itself is never
    reached: where it would be, the next cycle starts.

    Args:
        init_value: The value at the start of every cycle.
        first_decay_steps: Steps of the first cycle; positive.
        t_mult: The factor by which cycles grow: an integer, at least 1.
        end_value: The value towards the end of every cycle.

    Raises:
        HyperparameterError: If `first_decay_steps` or `t_mult` is not a positive integer.

    References:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
        Equation 5. https://arxiv.org/abs/1608.03983
    """

    init_value: Scalar
    first_decay_steps: Length
    t_mult: int = 1
    end_value: Scalar = 0.0
    drawn_lengths = 4

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.steps(self, "first_decay_steps", self.first_decay_steps)
        checks.whole_number(self, "t_mult", self.t_mult, least=1)
        checks.number(self, "end_value", self.end_value)

    def __call__(self, step: Any) -> Any:
        step, start, end = evaluated(step, self.init_value, self.end_value)
        step = clamp(step, 0, math.inf)
        begin, length = self._cycle(step)
        return between(start, end, half_cosine((step - begin) / length))

    def _cycle(self, step: Any) -> tuple[Any, Any]:
        """The first step of the current cycle, and its length; exact below 2^50 steps."""
        first, growth = exact(self.first_decay_steps), self.t_mult
        if growth == 1:
            return floor(step / first) * first, first

        def begin(size: Any) -> Any:  # of a cycle that is so many times as long as the first
            return first * (size - 1) / (growth - 1)

        cycle = floor(log(1 + step * (growth - 1) / first) / math.log(growth))
        size = floor(growth**cycle + 0.5)  # a power may be off by a rounding
        # Next to a restart, that of the logarithm may have led to the cycle before or after.
        size = where(step < begin(size), size / growth, size)
        size = where(step >= begin(size * growth), size * growth, size)
        return begin(size), first * size


class cosine_cycles_schedule(ScheduleRecord):
    """Cosine decay from `init_value` to `end_value`, `num_cycles` times in a fixed number of steps.

    With x the fraction of its cycle that has passed at a step, each of ``decay_steps / num_cycles``
    steps:

        end_value + (init_value - end_value) (1 + cos(pi x)) / 2

    and `end_value` from step `decay_steps` on. The same as
    `get_cosine_with_hard_restarts_schedule_with_warmup` of Transformers, after its warm-up, which
    `join_schedules` puts in front. `cosine_restarts_schedule` goes on without end.

    Args:
        init_value: The value at the start of every cycle.
        decay_steps: Steps of all cycles together; positive.
        num_cycles: The number of cycles, at least 1.
        end_value: The value towards the end of every cycle, and from step `decay_steps` on.

    Raises:
        HyperparameterError: If `decay_steps` or `num_cycles` is not a positive integer.

    References:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
        https://arxiv.org/abs/1608.03983
    """

    init_value: Scalar
    decay_steps: Length
    num_cycles: int = 1
    end_value: Scalar = 0.0

    def __post_init__(self) -> None:
        checks.number(self, "init_value", self.init_value)
        checks.steps(self, "decay_steps", self.decay_steps)
        checks.whole_number(self, "num_cycles", self.num_cycles, least=1)
        checks.number(self, "end_value", self.end_value)

    def __call__(self, step: Any) -> Any:
        step, start, end = evaluated(step, self.init_value, self.end_value)
        steps = exact(self.decay_steps)
        passed = self.num_cycles * clamp(step, 0, steps) / steps  # whole at a restart
        now = between(start, end, half_cosine(passed - floor(passed)))
        return where(step >= steps, end, now)
