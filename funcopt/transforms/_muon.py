"""Muon: momentum, orthogonalized by Newton-Schulz iterations."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.linalg import newton_schulz
from .._numerics.scalars import mix
from ..typing import Memory, Scalar, Slots


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
    default coefficients the singular values end between about 0.7 and 1.2. The ratio is

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

    On shards the whole matrix is gathered, on every rank.

    Args:
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        nesterov: Use Nesterov momentum.
        ns_coefficients: Coefficients of the iteration.
        eps: Lower bound of the norm in the denominator, in units of the gradient; not negative.
        ns_steps: The number of iterations, below 100.
        adjust_lr_fn: The name of the ratio.
        dims: What the matrices of a tensor of more than two dimensions are.
        ns_dtype: The dtype of the iteration. Products of bfloat16 are accumulated in float32, by
            another kernel on x86 processors without AMX, where that is faster: there the rounding
            differs from torch's, by the order of these additions.
        state_dtype: Storage dtype of the EMA.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `eps` is negative, `ns_steps` is not
            in 0 ... 99, or a name is unknown.
        LeafError: If a parameter is a vector, or has more than two dimensions without `dims`.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
        https://kellerjordan.github.io/posts/muon/. Liu et al., "Muon is Scalable for LLM
        Training", 2025, https://arxiv.org/abs/2502.16982, for match_rms_adamw.
    """

    momentum: Scalar = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[Scalar, Scalar, Scalar] = (3.4445, -4.7750, 2.0315)
    eps: Scalar = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None
    dims: Literal["batch", "flatten"] | None = None
    ns_dtype: torch.dtype | None = torch.bfloat16
    state_dtype: torch.dtype | None = None
    batched = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        checks.coefficients(self, "ns_coefficients", self.ns_coefficients, count=3)
        checks.non_negative(self, "eps", self.eps)
        checks.whole_number(self, "ns_steps", self.ns_steps, most=99)
        checks.choice(
            self, "adjust_lr_fn", self.adjust_lr_fn, (None, "original", "match_rms_adamw")
        )
        checks.choice(self, "dims", self.dims, (None, "batch", "flatten"))

    def unfit(self, p: Tensor) -> str | None:
        if p.dim() < 2:
            return (
                "must be a matrix. `muon` gives vectors to AdamW; `partition` and `masked` route "
                "parameters by name and shape."
            )
        if p.dim() > 2 and self.dims is None:
            return (
                'must be a matrix, or `dims` must say what the matrices are: "batch" if they are '
                'its last two dimensions, "flatten" if all dimensions but the first are the '
                "columns of one."
            )
        return None

    def init_tensor(self, p: Tensor) -> MuonSlots:
        return MuonSlots(torch.zeros_like(p, dtype=self.state_dtype))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.momentum}

    def update_tensor(
        self, g: Tensor, slots: MuonSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        mean = mix(slots.momentum_buffer, g, s.weight)
        x = mix(g, mean, s.momentum) if self.nesterov else mean
        x = x.flatten(1) if self.dims == "flatten" else x
        u = newton_schulz(x, s.ns_coefficients, self.ns_steps, s.eps, self.ns_dtype)
        return (self._ratio(x.shape) * u).reshape(g.shape), MuonSlots(mean)

    def _ratio(self, shape: Sequence[int]) -> float:
        m, n = shape[-2:]
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(m, n))
        return math.sqrt(max(1.0, m / n)) if n else 1.0
