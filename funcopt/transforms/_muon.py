"""Muon: momentum, orthogonalized by Newton-Schulz iterations."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix
from ..typing import Coefficients, Memory, Normalization, Ratio, Scalar, Slots
from ._orthogonalize import check_iterations, no_matrices, orthogonalized, other_blocks


class MuonSlots(NamedTuple):
    """The slots of Muon."""

    momentum_buffer: Tensor  # like p: EMA of the gradient


class scale_by_muon(TensorRule):
    """Orthogonalizes the momentum of each matrix by Newton-Schulz iterations.

    For a gradient G of m rows and n columns:

        momentum_buffer <- momentum momentum_buffer + (1 - momentum) G
        X = (1 - momentum) G + momentum momentum_buffer,   or without nesterov   momentum_buffer
        U = ratio NS(X)

    NS divides by ``max(norm(X), eps)`` and makes `ns_steps` Newton-Schulz iterations
    ``X <- a X + (b A + c A A) X``, with ``A = X X^T`` and `ns_coefficients` (a, b, c). With the
    default coefficients the singular values end between about 0.7 and 1.2. `orthogonalize`, the
    same without the momentum, has sets of coefficients, other normalizations and ratios, such as

        "original" (also `None`)     sqrt(max(1, m / n))
        "match_rms_adamw"            0.2 sqrt(max(m, n)), so that the entries are about as large as
                                     those of AdamW, whose learning rates then fit

    U has no unit. Only for the weights of hidden layers: `muon` gives embeddings, heads, norms and
    biases to AdamW.

    Shapes: matrices. Tensors of more dimensions with `dims`: ``"batch"`` takes the last two for
    matrices and those before them for a batch; ``"flatten"`` takes the first for the rows and all
    others together for the columns, as is usual for convolutions. m and n are those of the
    matrices.

    Dtypes: `momentum_buffer` in `state_dtype`, else in that of the parameter; NS in `ns_dtype`,
    bfloat16 as in torch; `None` is that of the computation, float32 or float64.

    On shards X is gathered, on every rank, and nothing else.

    Args:
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the iteration, as in `orthogonalize`, and so are the
            others but `state_dtype`.
        eps: Lower bound of the norm in the denominator, in units of the gradient; not negative.
        ns_steps: The number of iterations, below 100.
        adjust_lr_fn: The name of the ratio.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration.
        state_dtype: Storage dtype of the EMA.
        normalization: The name of the normalization.
        safety_factor: A factor of the norm in the denominator; positive.
        block_sizes: The number of rows of each block, or of all of them; `None` is one block.
        ns_method: How iterations are made, one by one or two at once with fewer products.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `eps` is negative, `ns_steps` is not
            in 0 ... 99, or a name is unknown.
        LeafError: If a parameter is a vector, has more than two dimensions without `dims`, or its
            rows are not those of the blocks.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
        https://kellerjordan.github.io/posts/muon/. Liu et al., "Muon is Scalable for LLM
        Training", 2025, https://arxiv.org/abs/2502.16982, for match_rms_adamw.
    """

    momentum: Scalar = 0.95
    nesterov: bool = True
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315)
    eps: Scalar = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Ratio | None = None
    dims: Literal["batch", "flatten"] | None = None
    ns_dtype: torch.dtype | None = torch.bfloat16
    state_dtype: torch.dtype | None = None
    normalization: Normalization = "clamp"
    safety_factor: Scalar = 1.0
    block_sizes: int | tuple[int, ...] | None = None
    ns_method: Literal["standard", "gram"] = "standard"
    batched = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        check_iterations(self)

    def unfit(self, p: Tensor) -> str | None:
        return no_matrices(p, self.dims) or other_blocks(p, self.dims, self.block_sizes)

    def init_tensor(self, p: Tensor) -> MuonSlots:
        return MuonSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: MuonSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean = mix(slots.momentum_buffer, g, s.weight)
        return mix(g, mean, s.momentum) if self.nesterov else mean, MuonSlots(mean)

    def finish_tensor(self, u: Tensor, p: Tensor, s: Scalars) -> Tensor:
        return orthogonalized(self, u, s)
