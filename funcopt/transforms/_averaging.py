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
    last stage, since it needs the final update. `eval_params` returns the average; of several in
    one chain, it takes the name of one. A `decay` that begins low is `ema_warmup_schedule`; one
    that averages over a share of the training so far, `power_ema_schedule`.

    With `sync_every`, Switch EMA: at each step whose number is divisible by it, the parameters are
    set to the average, ``u <- average - p``.

    Shapes: any. Dtypes: in `state_dtype`, else in that of the parameter.

    Args:
        decay: Decay rate of the average, in [0, 1).
        state_dtype: Storage dtype of the average; for bfloat16 parameters take `torch.float32`.
        name: The name of the average, to evaluate with this one of several.
        sync_every: The number of updates from one sync to the next; `None` for no syncs.

    Raises:
        HyperparameterError: If `decay` is outside [0, 1), `name` is no word, or `sync_every` is not
            a positive whole number.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Li et
        al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", 2024.
        https://arxiv.org/abs/2402.09240
    """

    decay: Scalar = 0.999
    state_dtype: torch.dtype | None = None
    name: str | None = None
    sync_every: int | None = None
    elementwise = True
    needs_params = True
    comes_last = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "decay", self.decay)
        checks.nonempty_name(self, "name", self.name)
        if self.sync_every is not None:
            checks.whole_number(self, "sync_every", self.sync_every, least=1)

    @property
    def changes_updates(self) -> bool:  # type: ignore[override]
        return self.sync_every is not None

    def init_tensor(self, p: Tensor) -> EmaOfParamsSlots:
        return EmaOfParamsSlots(p.to(self.state_dtype or p.dtype, copy=True))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        made = {"weight": where(step == 1, 1.0, 1 - self.decay)}
        if self.sync_every is not None:
            made["sync"] = where(step % self.sync_every == 0, 1.0, 0.0)
        return made

    def update_tensor(
        self, g: Tensor, slots: EmaOfParamsSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        average = mix(slots.ema_params, p + g, s.weight)
        u = g if self.sync_every is None else mix(g, average - p, s.sync)
        return u, EmaOfParamsSlots(average)

    def eval_tensor(self, p: Tensor, slots: EmaOfParamsSlots, memory: Memory) -> Tensor:
        return slots.ema_params
