"""Adam-mini: Adam with one second moment for each block of a tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import bias_correction, mix, sqrt
from ..typing import Memory, Scalar, Slots


class AdamMiniSlots(NamedTuple):
    """The slots of Adam-mini."""

    exp_avg: Tensor  # like p: EMA of the gradient
    exp_avg_sq: Tensor  # (blocks,): EMA of its mean square in a block


class scale_by_adam_mini(TensorRule):
    """Adam, whose second moment is one number for each block of a tensor.

    At step t = 1, 2, ..., for a gradient g, betas (b1, b2), and the mean over one block:

        exp_avg    <- b1 exp_avg + (1 - b1) g               m = exp_avg / (1 - b1^t)
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) mean(g^2)    v = exp_avg_sq / (1 - b2^t)
        u = m / (sqrt(v) + eps)

    A tensor is cut along its first dimension into so many equal `blocks`: the heads of queries or
    keys, for example. 0 is a block for each row, or output of a layer; 1 the whole tensor. For a
    block for each entry take `scale_by_adam`. `adam_mini` chooses by name and shape.

    u has no unit. Memory: one slot like the parameter, and a number for each block. Dtypes: slots
    in `state_dtype`, else in that of the parameter. On shards the gradient is gathered, and the
    second moments are whole on every rank.

    Args:
        betas: Decay rates of the EMAs of the gradient and of its mean square, in [0, 1).
        eps: Added to the root of the second moment, in units of the gradient; not negative.
        blocks: Number of blocks along the first dimension; 0 for its length.
        state_dtype: Storage dtype of the slots.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `eps` is negative, or `blocks` is
            not a whole number.
        LeafError: If a parameter is complex, or its entries cannot be cut into `blocks`.

    References:
        Zhang et al., "Adam-mini: Use Fewer Learning Rates To Gain More", ICLR 2025.
        https://arxiv.org/abs/2406.16793
    """

    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    blocks: int = 0
    state_dtype: torch.dtype | None = None
    elementwise = False
    batched = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        checks.non_negative(self, "eps", self.eps)
        checks.whole_number(self, "blocks", self.blocks)

    def unfit(self, p: Tensor) -> str | None:
        if self.blocks > 1 and p.numel() % self.blocks:
            return f"must have a number of entries that {self.blocks} blocks divide"
        return None

    def init_tensor(self, p: Tensor) -> AdamMiniSlots:
        dtype = self.state_dtype or p.dtype
        of_blocks = torch.zeros(self._blocks(p), dtype=dtype, device=p.device)
        return AdamMiniSlots(torch.zeros_like(p, dtype=dtype), of_blocks)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        return {
            "weights": (1 - b1, 1 - b2),
            "corrections": (bias_correction(b1, step), bias_correction(b2, step)),
        }

    def update_tensor(
        self, g: Tensor, slots: AdamMiniSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        count = self._blocks(g)
        size = g.numel() // max(count, 1)
        exp_avg = mix(slots.exp_avg, g, s.weights[0])
        mean = g.reshape(count, size).square().sum(1) / max(size, 1)
        exp_avg_sq = mix(slots.exp_avg_sq, mean, s.weights[1])
        root = sqrt(exp_avg_sq / s.corrections[1]) + s.eps
        u = exp_avg.reshape(count, size) / s.corrections[0] / root.unsqueeze(1)
        return u.reshape(g.shape), AdamMiniSlots(exp_avg, exp_avg_sq)

    def _blocks(self, p: Tensor) -> int:
        return self.blocks or (p.shape[0] if p.dim() else 1)
