"""The end of T5's Adafactor: learning rates relative to the size of the parameter."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_zero, mix, where
from ..typing import Memory, Scalar, Slots
from ._block import Squares


class RelativeSizeSlots(NamedTuple):
    """The slots of `scale_by_relative_size`."""

    exp_avg: Any  # like p: EMA of the scaled updates; () without momentum


class scale_by_relative_size(TensorRule):
    """Multiplies the updates by a learning rate, times the root mean square of the parameter.

    At step t = 1, 2, ..., for an update g, a parameter p, and the RMS over all its entries:

        rho = lr min(1e-2, 1 / sqrt(t)),   or lr min(1e-6 t, 1 / sqrt(t)) with `warmup_init`,
              or lr without `relative_step`
        r = rho max(eps, rms(p)),   or rho without `scale_parameter`
        exp_avg <- momentum exp_avg + (1 - momentum) r g
        u = exp_avg + r weight_decay p

    and u = r (g + weight_decay p) without `momentum`. So ends Adafactor in T5, fairseq and
    Transformers, as in `t5_adafactor`; `scale(-1.0)` negates u. Shapes: any; on shards the RMS is
    that of all of the tensor. Dtypes: the slot in `state_dtype`, else in that of the parameter.

    Args:
        lr: Factor of the relative step, or the learning rate; not negative.
        eps: Lower bound of the RMS, in units of the parameter; not negative.
        weight_decay: Decoupled weight decay, times r; not negative.
        momentum: Decay rate of the EMA of the scaled updates, in [0, 1); `None` for none.
        scale_parameter: Multiply by the RMS of the parameter.
        relative_step: Let the learning rate fall with the root of the step.
        warmup_init: Let it rise from 1e-6 until then.
        state_dtype: Storage dtype of the slot.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `warmup_init` is set without
            `relative_step`.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML
        2018, section 8. https://arxiv.org/abs/1804.04235
    """

    lr: Scalar = 1.0
    eps: Scalar = 1e-3
    weight_decay: Scalar = 0.0
    momentum: Scalar | None = None
    scale_parameter: bool = True
    relative_step: bool = True
    warmup_init: bool = False
    state_dtype: torch.dtype | None = None
    elementwise = True
    needs_params = True
    measure_per = "tensor"

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.non_negative(self, "eps", self.eps)
        checks.non_negative(self, "weight_decay", self.weight_decay)
        if self.momentum is not None:
            checks.in_unit_interval(self, "momentum", self.momentum)
        for name in ("scale_parameter", "relative_step", "warmup_init"):
            checks.switch(self, name, getattr(self, name))
        if self.warmup_init and not self.relative_step:
            checks.refuse(self, "warmup_init", True, "needs `relative_step=True`.")

    def init_tensor(self, p: Tensor) -> RelativeSizeSlots:
        if self.momentum is None:
            return RelativeSizeSlots(())
        return RelativeSizeSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        weight = None if self.momentum is None else 1 - self.momentum
        if not self.relative_step:
            return {"rho": self.lr, "weight": weight}
        falling, most = step**-0.5, 1e-6 * step if self.warmup_init else 1e-2
        return {"rho": self.lr * where(most < falling, most, falling), "weight": weight}

    def measure_tensor(self, g: Tensor, slots: RelativeSizeSlots, p: Tensor, s: Scalars) -> Squares:
        return Squares.of(p)

    def conclude(self, s: Scalars, memory: Memory, total: Squares) -> tuple[dict[str, Any], Memory]:
        size = total.rms()
        size = torch.where(size > s.eps, size, s.eps) if self.scale_parameter else 0 * size + 1
        return {"r": s.rho * size}, memory

    def update_tensor(
        self, g: Tensor, slots: RelativeSizeSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        u, exp_avg = s.r * g, slots.exp_avg
        if s.weight is not None:
            u = exp_avg = mix(exp_avg, u, s.weight)
        if not is_zero(s.weight_decay):
            return u + s.r * s.weight_decay * p, RelativeSizeSlots(exp_avg)
        return u.clone() if s.weight is not None else u, RelativeSizeSlots(exp_avg)
