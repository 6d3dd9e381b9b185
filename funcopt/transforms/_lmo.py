"""Directions of steepest descent in norms other than that of `orthogonalize`."""

from typing import Literal

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Scalar, Slots

NORMS = ("auto", "sign", "rms", "column", "row", "embedding")


class scale_by_lmo(TensorRule):
    """The linear minimization oracle of Scion: the point of a unit ball that is farthest along G.

    For an update G of m rows and n columns:

        U = argmax sum(V G),   among all V with norm(V) <= 1

    With rms the root mean square, this is for the norm of each name

        "sign"       sign(G) / n, for heads, or for embeddings that share their weight
        "rms"        G / (rms(G) + eps), for vectors
        "column"     each column by its rms + eps, for first layers of one-hot inputs
        "embedding"  each row by its rms + eps, for embeddings
        "row"        each row by n rms + eps, for heads
        "auto"       "rms" for vectors, "sign" for all others

    The sign of the update is that of G: `scale_by_learning_rate` negates it. U has no unit. The
    ball of the spectral norm, for hidden layers, is ``orthogonalize(adjust_lr_fn="rms_to_rms")``.

    Shapes: vectors with "rms" or "auto"; else matrices, and tensors of more dimensions, whose first
    is that of the rows. Dtypes: those of the computation. Stateless. On shards the whole tensor is
    gathered, on every rank.

    Args:
        norm: The name of the ball.
        eps: Added to a root mean square, in units of the gradient; not negative.

    Raises:
        HyperparameterError: If `norm` is unknown, or `eps` is negative.
        LeafError: If a parameter is a vector where rows and columns are needed.

    References:
        Pethick et al., "Training Deep Learning Models with Norm-Constrained LMOs", 2025.
        https://arxiv.org/abs/2502.07529. The names of the official code are Sign, BiasRMS, ColNorm,
        RowNorm, and for "embedding" ColNorm(transpose=True).
    """

    norm: Literal["auto", "sign", "rms", "column", "row", "embedding"] = "auto"
    eps: Scalar = 1e-8
    batched = True

    def __post_init__(self) -> None:
        checks.choice(self, "norm", self.norm, NORMS)
        checks.non_negative(self, "eps", self.eps)

    def unfit(self, p: Tensor) -> str | None:
        if p.dim() < 2 and self.norm not in ("auto", "rms"):
            return f'must have rows and columns for "{self.norm}": "rms" is for vectors.'
        return None

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        if self.norm == "rms" or g.dim() < 2:
            return g / (_rms(g, None) + s.eps), slots
        x = g.flatten(1)
        n = max(x.shape[1], 1)
        if self.norm in ("auto", "sign"):
            return g.sign() / n, slots
        size = _rms(x, 0 if self.norm == "column" else 1)
        u = x / ((n * size if self.norm == "row" else size) + s.eps)
        return u.reshape(g.shape), slots


def _rms(x: Tensor, dim: int | None) -> Tensor:
    count = max(x.numel() if dim is None else x.shape[dim], 1)
    return sqrt(x.square().sum(dim, keepdim=True) / count)
