"""The 1cycle policy."""

from typing import Any, Literal

from .._core import checks
from .._numerics.scalars import clamp, exact, where
from ..typing import Length, Scalar
from ._base import ScheduleRecord
from ._shape import between, evaluated, half_cosine, straight

_FALLS = {"cos": half_cosine, "linear": straight}


class one_cycle_schedule(ScheduleRecord):
    """The 1cycle policy: up to `peak_value`, then down far below the initial value.

    It interpolates between these values, each reached at this step:

        peak_value / div_factor                     before step 0
        peak_value                                  pct_start total_steps - 1
        peak_value / div_factor                     2 pct_start total_steps - 2, with `three_phase`
        peak_value / div_factor / final_div_factor  total_steps - 1, and from then on

    along half cosines or lines. The same as `torch.optim.lr_scheduler.OneCycleLR`; to cycle the
    momentum too, give it its own schedule. Optax's `cosine_onecycle_schedule` reaches the peak
    and the end one step later.

    Args:
        peak_value: The largest value.
        total_steps: The number of steps, of which the last has the smallest value; positive.
        pct_start: The fraction of steps of the increase, in [0, 1].
        div_factor: The ratio of the peak to the initial value; positive.
        final_div_factor: The ratio of the initial to the final value; positive.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        three_phase: Decrease as fast as the increase, then further down.

    Raises:
        HyperparameterError: If an argument is out of range, or `anneal_strategy` is unknown.

    References:
        Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
        Learning Rates", 2018. https://arxiv.org/abs/1708.07120
    """

    peak_value: Scalar
    total_steps: Length
    pct_start: Scalar = 0.3
    div_factor: Scalar = 25.0
    final_div_factor: Scalar = 1e4
    anneal_strategy: Literal["cos", "linear"] = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        checks.number(self, "peak_value", self.peak_value)
        checks.steps(self, "total_steps", self.total_steps)
        checks.fraction(self, "pct_start", self.pct_start)
        checks.positive(self, "div_factor", self.div_factor)
        checks.positive(self, "final_div_factor", self.final_div_factor)
        checks.choice(self, "anneal_strategy", self.anneal_strategy, _FALLS)

    def __call__(self, step: Any) -> Any:
        step, peak, share, div, final_div = evaluated(
            step, self.peak_value, self.pct_start, self.div_factor, self.final_div_factor
        )
        total = exact(self.total_steps)
        final = total - 1
        step = clamp(step, 0, final)
        low = peak / div
        top = share * total - 1
        if self.three_phase:
            down = self._phase(step, 2 * top, final, low, low / final_div)
            down = where(step <= 2 * top, self._phase(step, top, 2 * top, peak, low), down)
        else:
            down = self._phase(step, top, final, peak, low / final_div)
        return where(step <= top, self._phase(step, 0.0, top, low, peak), down)

    def _phase(self, step: Any, begin: Any, end: Any, start: Any, stop: Any) -> Any:
        """From `start` to `stop` while the step goes from `begin` to `end`."""
        empty = end <= begin  # a phase of no length is over as it starts
        x = clamp((step - begin) / where(empty, 1.0, end - begin), 0.0, 1.0)
        return between(start, stop, _FALLS[self.anneal_strategy](where(empty, 1.0, x)))
