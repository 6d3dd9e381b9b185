"""Weight decay."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_zero
from ..typing import Scalar, Slots


class add_decayed_weights(TensorRule):
    """Adds weight decay to the updates.

        u = g + weight_decay p

    Before a stage that scales gradients this is L2 regularization, as in `torch.optim.SGD` and
    `Adam`. After it, the decay is decoupled, as in `AdamW`: the parameters shrink by ``lr
    weight_decay`` in every step. At a Python number 0 the parameters are not needed.

    Args:
        weight_decay: The weight decay, in units of the update per unit of the parameter; not
            negative.

    Raises:
        HyperparameterError: If `weight_decay` is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
        https://arxiv.org/abs/1711.05101
    """

    weight_decay: Scalar
    elementwise = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "weight_decay", self.weight_decay)

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        return not is_zero(self.weight_decay)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g if is_zero(s.weight_decay) else g + s.weight_decay * p, slots


class add_cautious_decayed_weights(TensorRule):
    """Adds weight decay to the entries that the update moves towards zero.

        u = g + weight_decay p   where g p >= 0,   u = g   elsewhere

    An entry that the update moves away from zero is not held back, so the decay changes the path
    and not where it ends. It belongs after all stages that change the direction of the updates, and
    before the learning rate:

        chain(scale_by_adam(), add_cautious_decayed_weights(0.1), scale_by_learning_rate(1e-3))

    `cautious` around `add_decayed_weights` is not this: it leaves out updates. Nothing is rescaled.
    Shapes: any; on complex tensors, real and imaginary parts are entries.

    Args:
        weight_decay: The weight decay, in units of the update per unit of the parameter; not
            negative.

    Raises:
        HyperparameterError: If `weight_decay` is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Chen et al., "Cautious Weight Decay", 2025, Algorithm 1. https://arxiv.org/abs/2510.12402
    """

    weight_decay: Scalar
    elementwise = True
    needs_params = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "weight_decay", self.weight_decay)

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        same = g.sign() * p.sign() >= 0  # the product of entries may be too small for a float
        return g + s.weight_decay * torch.where(same, p, 0.0), slots


class DecayTowardsInitSlots(NamedTuple):
    """The slots of `add_decay_towards_init`."""

    init_params: Tensor  # like p: the parameter that training began with


class add_decay_towards_init(TensorRule):
    """Adds a pull towards the parameters that training began with: decay of what was learned.

        u = g + weight_decay (p - init_params)

    For fine-tuning: weight decay would forget what the weights of the beginning know. It is
    decoupled after a stage that scales gradients, as `add_decayed_weights` is. Shapes: any. Dtypes:
    `init_params` in `state_dtype`, else in that of the parameter.

    Args:
        weight_decay: The decay, in units of the update per unit of the parameter; not negative.
        state_dtype: Storage dtype of the copy of the parameters.

    Raises:
        HyperparameterError: If `weight_decay` is negative.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML
        2018. https://arxiv.org/abs/1802.01483
    """

    weight_decay: Scalar
    state_dtype: torch.dtype | None = None
    elementwise = True
    needs_params = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "weight_decay", self.weight_decay)

    def init_tensor(self, p: Tensor) -> DecayTowardsInitSlots:
        return DecayTowardsInitSlots(p.to(self.state_dtype or p.dtype, copy=True))

    def update_tensor(
        self, g: Tensor, slots: DecayTowardsInitSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        return g + s.weight_decay * (p - slots.init_params), slots
