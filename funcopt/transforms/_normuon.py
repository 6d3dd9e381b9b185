"""NorMuon: orthogonalized updates, normalized by a second moment of their own."""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import mix, sqrt
from ..typing import Memory, Scalar, Slots
from ._orthogonalize import no_matrices


class NormuonSlots(NamedTuple):
    """The slots of NorMuon."""

    exp_avg_sq: Tensor  # (..., m, 1), (..., 1, n) or (..., m, n): EMA of the update's mean square


class scale_by_normuon(TensorRule):
    """Divides an orthogonalized update by the root of its second moment, and keeps its norm.

    For an update O of m rows and n columns, behind `scale_by_muon` or `orthogonalize`:

        exp_avg_sq <- beta2 exp_avg_sq + (1 - beta2) mean(O^2)
        V = O / (sqrt(exp_avg_sq) + moment_eps)
        U = norm(O) / (norm(V) + moment_eps) V

    The norm is that of the matrix, so a factor of O, as the ratio of `scale_by_muon`, is one of U,
    and no bias correction is needed. The mean is that of each

        "row"          of n columns, in NorMuon
        "longer_side"  row of a matrix that is at least as tall as wide, else column, as
                       modded-nanogpt and nanochat have it
        "entry"        alone, in AdaMuon

    With `match_rms_adamw`, ``0.2 sqrt(m n)`` is in the place of norm(O), so that the root mean
    square of U is 0.2, as that of AdamW about is: AdaMuon.

    U has the unit of O, or none. Shapes and `dims` as in `orthogonalize`. Dtypes: `exp_avg_sq` in
    `state_dtype`, else in that of the parameter. On shards the whole matrix is gathered, on every
    rank.

    Args:
        beta2: Decay rate of the EMA, in [0, 1).
        moment_eps: Added to the root and to the norm, in units of O; not negative.
        per: What has a second moment.
        match_rms_adamw: Rescale to a root mean square of 0.2, not to the norm of O.
        dims: What the matrices of a tensor of more than two dimensions are.
        state_dtype: Storage dtype of the EMA.

    Raises:
        HyperparameterError: If `beta2` is outside [0, 1), `moment_eps` is negative, or a name is
            unknown.
        LeafError: If a parameter is a vector, or has more than two dimensions without `dims`.

    References:
        Li et al., "NorMuon: Making Muon more efficient and scalable", 2025.
        https://arxiv.org/abs/2510.05491. Si et al., "AdaMuon: Adaptive Muon Optimizer", 2025,
        https://arxiv.org/abs/2507.11005.
    """

    beta2: Scalar = 0.95
    moment_eps: Scalar = 1e-10
    per: Literal["row", "longer_side", "entry"] = "row"
    match_rms_adamw: bool = False
    dims: Literal["batch", "flatten"] | None = None
    state_dtype: torch.dtype | None = None
    batched = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "beta2", self.beta2)
        checks.non_negative(self, "moment_eps", self.moment_eps)
        checks.choice(self, "per", self.per, ("row", "longer_side", "entry"))
        checks.choice(self, "dims", self.dims, (None, "batch", "flatten"))

    def unfit(self, p: Tensor) -> str | None:
        return no_matrices(p, self.dims)

    def init_tensor(self, p: Tensor) -> NormuonSlots:
        if self.per == "entry":
            return NormuonSlots(torch.zeros_like(p, dtype=self.state_dtype))
        *batch, m, n = self._matrices(p).shape
        lines = (m, 1) if self._by_row(m, n) else (1, n)
        dtype = self.state_dtype or p.dtype
        return NormuonSlots(torch.zeros((*batch, *lines), dtype=dtype, device=p.device))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {"weight": 1 - self.beta2}

    def update_tensor(
        self, g: Tensor, slots: NormuonSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        x = self._matrices(g)
        m, n = x.shape[-2:]
        if self.per == "entry":
            moment = mix(slots.exp_avg_sq, g * g, s.weight)
            u = x / (sqrt(self._matrices(moment)) + s.moment_eps)
        else:
            dim = -1 if self._by_row(m, n) else -2
            mean = (x * x).sum(dim, keepdim=True) / max(x.shape[dim], 1)
            moment = mix(slots.exp_avg_sq, mean, s.weight)
            u = x / (sqrt(moment) + s.moment_eps)
        norm = 0.2 * math.sqrt(m * n) if self.match_rms_adamw else _norm(x)
        return (norm / (_norm(u) + s.moment_eps) * u).reshape(g.shape), NormuonSlots(moment)

    def _matrices(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.dims == "flatten" else x

    def _by_row(self, m: int, n: int) -> bool:
        return self.per == "row" or m >= n


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return norm
