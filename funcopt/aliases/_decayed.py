"""A method with weight decay and a learning rate, as a chain."""

from .._core.tensor_rule import GradientTransformation
from ..combinators import chain
from ..transforms import add_decayed_weights, scale_by_learning_rate
from ..typing import Scalar


def decayed(
    scaling: GradientTransformation, weight_decay: Scalar, lr: Scalar, decoupled: bool
) -> GradientTransformation:
    """The chain of a method, with decoupled weight decay or L2 regularization."""
    decay = add_decayed_weights(weight_decay)
    before, after = (scaling, decay) if decoupled else (decay, scaling)
    return chain(before, after, scale_by_learning_rate(lr))
