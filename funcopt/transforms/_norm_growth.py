"""The limit of the growth of norms, as in Fira and APOLLO."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import is_unset, sqrt, unset_like
from ..typing import Scalar, Slots

EPS = 1e-8
"""Added to the last norm, as in the code of the authors."""


class NormGrowthSlots(NamedTuple):
    """The slots of `limit_norm_growth`."""

    last_norm: Tensor  # (): the norm of the last update


class limit_norm_growth(TensorRule):
    """Bounds the norm of the update of each tensor by that of its last one, times a factor.

        u = g / max(norm(g) / (last_norm + 1e-8) / max_growth, 1),   but u = g at first
        last_norm <- norm(u)

    with ``norm(x) = sqrt(sum of the squares)``. In a chain for low-rank gradients it keeps a sudden
    growth, as after a new projector, from destroying what was learned. Shapes: any; on shards the
    update is gathered. Dtypes: `last_norm` in that of the parameter.

    Args:
        max_growth: Largest ratio of one norm to the last; positive, in practice above 1.

    Raises:
        HyperparameterError: If `max_growth` is not positive.

    References:
        Chen et al., "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
        2024. https://arxiv.org/abs/2410.01623
    """

    max_growth: Scalar = 1.01
    batched = True

    def __post_init__(self) -> None:
        checks.positive(self, "max_growth", self.max_growth)

    def init_tensor(self, p: Tensor) -> NormGrowthSlots:
        return NormGrowthSlots(unset_like(torch.zeros((), dtype=p.dtype, device=p.device)))

    def update_tensor(
        self, g: Tensor, slots: NormGrowthSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        norm, last = sqrt(g.square().sum()), slots.last_norm.reshape(())
        growth = norm / (torch.where(is_unset(last), 0.0, last) + EPS)
        limiter = torch.where(is_unset(last), 1.0, (growth / s.max_growth).clamp(min=1.0))
        new = norm / limiter + 0.0
        return g / limiter, NormGrowthSlots(new.reshape(slots.last_norm.shape))
