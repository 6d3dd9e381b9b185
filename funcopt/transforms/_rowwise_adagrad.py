"""Row-wise Adagrad: one number for each row of an embedding."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Scalar, Slots


class RowwiseAdagradSlots(NamedTuple):
    """The slots of row-wise Adagrad."""

    sum: Tensor  # like p, but of length 1 in all dimensions but the first: of the mean squares


class scale_by_rowwise_adagrad(TensorRule):
    """Divides each row of the gradient by the root of the sum of its mean squares so far.

    For a gradient g, whose rows are along the first dimension, with the mean over a row:

        sum <- sum + mean(g^2)
        u = g / (sqrt(sum) + eps)

    For embeddings: a row without gradient keeps its sum, and is not moved. The same as Adagrad for
    rows of one entry.

    u has no unit. Shapes: any. Memory: one number for each row. Dtypes: the slot in `state_dtype`,
    else in that of the parameter. On shards the gradient is gathered, and the sums are whole on
    every rank.

    Args:
        eps: Added outside the root, in units of the gradient; not negative.
        initial_accumulator_value: The sum in the beginning, in units of the gradient squared; not
            negative. Read by `init`.
        state_dtype: Storage dtype of the slot.

    Raises:
        HyperparameterError: If a hyperparameter is negative.
        LeafError: If a parameter is complex.

    References:
        Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization", JMLR 2011. https://jmlr.org/papers/v12/duchi11a.html. Row-wise: Mudigere et
        al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
        Recommendation Models", ISCA 2022, section 4.1. https://arxiv.org/abs/2104.05158
    """

    eps: Scalar = 1e-8
    initial_accumulator_value: Scalar = 0.0
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True
    nonnegative = frozenset({"sum"})

    def __post_init__(self) -> None:
        checks.non_negative(self, "eps", self.eps)
        checks.fixed(self, "initial_accumulator_value", self.initial_accumulator_value)
        checks.non_negative(self, "initial_accumulator_value", self.initial_accumulator_value)

    def init_tensor(self, p: Tensor) -> RowwiseAdagradSlots:
        shape = [n if i == 0 else 1 for i, n in enumerate(p.shape)] or [1]
        zeros = torch.zeros(shape, dtype=self.state_dtype or p.dtype, device=p.device)
        return RowwiseAdagradSlots(zeros + self.initial_accumulator_value)

    def update_tensor(
        self, g: Tensor, slots: RowwiseAdagradSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        total = slots.sum + _mean_of_rows(g.square())
        return g / (sqrt(total) + s.eps), RowwiseAdagradSlots(total)


def _mean_of_rows(x: Tensor) -> Tensor:
    """The mean over all dimensions but the first, which stay with length 1."""
    dims = list(range(1, x.dim()))
    if not dims:
        return x
    return x.sum(dims, keepdim=True) / max(x.shape[1:].numel(), 1)
