"""Quasi-hyperbolic momentum: weighted means of a gradient and of its EMA."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._adam import AdamSlots


class QhmSlots(NamedTuple):
    """The slots of QHM."""

    momentum_buffer: Tensor  # like p: EMA of the gradient


class scale_by_qhm(TensorRule):
    """Replaces the gradient by a weighted mean of itself and of its EMA.

    Entry by entry, for a gradient g:

        momentum_buffer <- momentum momentum_buffer + (1 - momentum) g
        u = (1 - nu) g + nu momentum_buffer

    The EMA has no bias correction. ``nu = 0`` is SGD, ``nu = 1`` an EMA, and ``nu = momentum``
    Nesterov momentum, times 1 - momentum. u has the unit of g, and no factor 1 / (1 - momentum):
    learning rates are larger by that than those of `trace`.

    Shapes: any. Dtypes: the slot in `state_dtype`, else in that of the parameter.

    Args:
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        nu: Weight of the EMA in the update, in [0, 1].
        state_dtype: Storage dtype of the slot.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), or `nu` outside [0, 1].

    References:
        Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019,
        section 3. https://arxiv.org/abs/1810.06801
    """

    momentum: Scalar = 0.999
    nu: Scalar = 0.7
    state_dtype: torch.dtype | None = None
    elementwise = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        checks.fraction(self, "nu", self.nu)

    def init_tensor(self, p: Tensor) -> QhmSlots:
        return QhmSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: QhmSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean = mix(slots.momentum_buffer, g, s.weight)
        return mix(g, mean, s.nu), QhmSlots(mean)


class scale_by_qhadam(TensorRule):
    """Adam with weighted means of the gradient and its EMA, and of the square and its EMA.

    Entry by entry, at step t = 1, 2, ..., for a gradient g, betas (b1, b2) and nus (n1, n2):

        exp_avg    <- b1 exp_avg + (1 - b1) g            m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) g^2       v = exp_avg_sq / (1 - b2^t)
        u = ((1 - n1) g + n1 m) / (sqrt((1 - n2) g^2 + n2 v) + eps)

    With ``nus = (1, 1)`` it is `scale_by_adam`. The authors' code keeps m and v themselves; the
    steps are the same.

    u has no unit. Shapes: any. Dtypes: slots in `state_dtype`, else in that of the parameter.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its square, in [0, 1).
        nus: Weights of the EMAs in the numerator and below the root, in [0, 1]. The paper advises
            (0.7, 1.0) with ``betas = (0.995, 0.999)``.
        eps: Added outside the root, in units of the gradient; not negative.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), a weight is outside [0, 1], or
            `eps` is negative.

    References:
        Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019,
        section 4. https://arxiv.org/abs/1810.06801
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    nus: tuple[Scalar, Scalar] = (1.0, 1.0)
    eps: Scalar = 1e-8
    state_dtype: torch.dtype | None = None
    elementwise = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.several(self, "nus", self.nus)
        for i, nu in enumerate(self.nus):
            checks.fraction(self, f"nus[{i}]", nu)
        checks.non_negative(self, "eps", self.eps)

    def init_tensor(self, p: Tensor) -> AdamSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        return AdamSlots(zeros, zeros.clone(), ())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: AdamSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        square = g * g
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, square, s.weights[1])
        m = mix(g, exp_avg / s.corrections[0], s.nus[0])
        v = mix(square, exp_avg_sq / s.corrections[1], s.nus[1])
        return m / (sqrt(v) + s.eps), AdamSlots(exp_avg, exp_avg_sq, ())
