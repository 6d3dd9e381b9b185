"""Half a cosine from one value down to another, once or again and again."""

import math
from typing import Any

from .._core import checks
from .._numerics.scalars import clamp, exact, floor, log, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, half_cosine, progress


class cosine_decay_schedule(ScheduleRecord):
    """Goes from `init_value` to `end_value` along half a cosine, then stays there.

    With x = step / decay_steps, not above 1:

        end_value + (init_value - end_value) (1 + cos(pi x)) / 2

    The same as `torch.optim.lr_scheduler.CosineAnnealingLR` up to its `T_max`, where that turns
    round; and as Optax's `cosine_decay_schedule` with ``end_value = alpha init_value``.

    Args:
        init_value: The value at step 0.
        decay_steps: How many steps the way takes; positive.
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
    """Goes from `init_value` to `end_value` along half a cosine, and starts again, without end.

    The first cycle has `first_decay_steps` steps, every further one `t_mult` times as many. With x
    the share of its cycle that has passed at a step:

        end_value + (init_value - end_value) (1 + cos(pi x)) / 2

    The same as `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`. `end_value` itself is never
    reached: where it would be, the next cycle begins.

    Args:
        init_value: The value at the beginning of every cycle.
        first_decay_steps: The length of the first cycle; positive.
        t_mult: By how much cycles grow: a whole number, at least 1.
        end_value: The value towards the end of every cycle.

    Raises:
        HyperparameterError: If `first_decay_steps` or `t_mult` is no positive whole number.

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
        """The step at which the current cycle began, and its length; exact below 2^50 steps."""
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
