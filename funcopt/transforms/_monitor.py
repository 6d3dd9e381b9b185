"""Metrics of updates that pass unchanged."""

from typing import Any, NamedTuple

from torch import Tensor

from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import count, sqrt
from ..typing import Memory, Slots


class WatchTotals(NamedTuple):
    """The sums over all tensors."""

    update_squares: Tensor  # ()
    param_squares: Tensor  # ()
    entries: Tensor  # ()


class monitor(TensorRule):
    """Measures the norms of updates and parameters at its place in a chain; changes nothing.

        update_norm = sqrt(sum of u^2)
        update_rms  = sqrt(mean of u^2)
        param_norm  = sqrt(sum of p^2)

    Over all entries of all tensors. `Optimizer.metrics()` shows the three; at the end of a chain,
    ``update_norm / param_norm`` is the relative size of a step.

    Raises:
        MissingParamsError: If `update` is not given the parameters.
    """

    elementwise = True
    needs_params = True
    changes_updates = False
    metrics = ("update_norm", "update_rms", "param_norm")

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> WatchTotals:
        return WatchTotals(g.square().sum(), p.square().sum(), count(g))

    def conclude(
        self, s: Scalars, memory: Memory, total: WatchTotals
    ) -> tuple[dict[str, Any], Memory]:
        shown = {
            "update_norm": sqrt(total.update_squares),
            "update_rms": sqrt(total.update_squares / total.entries.clamp(min=1.0)),
            "param_norm": sqrt(total.param_squares),
        }
        return shown, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g, slots
