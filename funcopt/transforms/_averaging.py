"""An exponential moving average of the parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, where
from ..typing import Memory, Scalar, Slots


class EmaOfParamsSlots(NamedTuple):
    """The slots of `ema_of_params`."""

    ema_params: Tensor  # like p: EMA of the parameters after each update


class ema_of_params(TensorRule):
    """Keeps an exponential moving average of the parameters; the updates pass unchanged.

    After the update u of step t = 1, 2, ...:

        average <- decay average + (1 - decay) (p + u),   but average <- p + u at t = 1

    The same as `torch.optim.swa_utils.AveragedModel` with `get_ema_avg_fn(decay)`. It has to be the
    last stage, since it needs the final update. `eval_params` returns the average.

    Shapes: any. Dtypes: in `state_dtype`, else in that of the parameter.

    Args:
        decay: Decay rate of the average, in [0, 1).
        state_dtype: Storage dtype of the average; for bfloat16 parameters take `torch.float32`.

    Raises:
        HyperparameterError: If `decay` is outside [0, 1).
        MissingParamsError: If `update` is not given the parameters.

    References:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    decay: Scalar = 0.999
    state_dtype: torch.dtype | None = None
    elementwise = True
    needs_params = True
    changes_updates = False
    comes_last = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "decay", self.decay)

    def init_tensor(self, p: Tensor) -> EmaOfParamsSlots:
        return EmaOfParamsSlots(p.to(self.state_dtype or p.dtype, copy=True))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": where(step == 1, 1.0, 1 - self.decay)}

    def update_tensor(
        self, g: Tensor, slots: EmaOfParamsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        return g, EmaOfParamsSlots(mix(slots.ema_params, p + g, s.weight))

    def eval_tensor(self, p: Tensor, slots: EmaOfParamsSlots, memory: Memory) -> Tensor:
        return slots.ema_params
