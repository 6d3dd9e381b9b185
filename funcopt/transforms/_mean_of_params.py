"""The mean of the parameters since a certain step."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import double, mix, where
from ..typing import Memory, Scalar, Slots


class MeanOfParamsSlots(NamedTuple):
    """The slots of `mean_of_params`."""

    ax: Tensor  # like p: the mean of the parameters after each update


class MeanOfParamsMemory(NamedTuple):
    """The shared scalars of `mean_of_params`."""

    mu: Tensor  # (): the weight of the next parameters in the mean


class mean_of_params(TensorRule):
    """Keeps the plain mean of the parameters since step t0; the updates pass unchanged.

    After the update u of step t = 1, 2, ..., beginning with mu = 1:

        ax <- ax + mu (p + u - ax)
        mu <- 1 / max(1, t - t0)

    Until step t0 + 2, ax is the parameters themselves; then all that follow have equal weights.
    This is the average of `torch.optim.ASGD`. It has to be the last stage, since it needs the final
    update. `eval_params` returns the mean, and `Optimizer.averaged` evaluates with it.

    Shapes: any. Dtypes: `ax` in `state_dtype`, else in that of the parameter; `mu` in float64.

    Args:
        t0: The step at which averaging starts, a number of updates; not negative.
        state_dtype: Storage dtype of the mean; for bfloat16 parameters take `torch.float32`.
        name: The name of the mean, to evaluate with this one of several averages.

    Raises:
        HyperparameterError: If `t0` is negative, or `name` is no word.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """

    t0: Scalar = 0.0
    state_dtype: torch.dtype | None = None
    name: str | None = None
    elementwise = True
    needs_params = True
    changes_updates = False
    comes_last = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "t0", self.t0)
        checks.nonempty_name(self, "name", self.name)

    def init_tensor(self, p: Tensor) -> MeanOfParamsSlots:
        return MeanOfParamsSlots(p.to(self.state_dtype or p.dtype, copy=True))

    def init_memory(self, like: Tensor) -> MeanOfParamsMemory:
        return MeanOfParamsMemory(torch.ones((), dtype=torch.float64))

    def prepare(self, step: Any, memory: MeanOfParamsMemory) -> dict[str, Any]:
        count = step - self.t0
        return {"mu": memory.mu, "next": 1 / where(count > 1, count, 1.0)}

    def conclude(
        self, s: Scalars, memory: MeanOfParamsMemory, total: Any
    ) -> tuple[dict[str, Any], Memory]:
        return {}, MeanOfParamsMemory(double(s.next))

    def update_tensor(
        self, g: Tensor, slots: MeanOfParamsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        return g, MeanOfParamsSlots(mix(slots.ax, p + g, s.mu))

    def eval_tensor(self, p: Tensor, slots: MeanOfParamsSlots, memory: Memory) -> Tensor:
        return slots.ax
