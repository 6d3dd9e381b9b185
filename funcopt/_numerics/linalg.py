"""Functions of matrices, or of batches of them: (..., m, n)."""

import math
from typing import Any

import torch
from torch import Tensor

from .scalars import double

# Factorizations. Where eigenvalues coincide, or a matrix is singular, they have no derivative, and
# torch gives NaN. Here it is that of first-order perturbation theory, with 0 for directions that
# are not determined: a correction is added whose value is 0 and whose slope is that. Derivatives of
# second order through a factorization are left out.


def eigenvectors(a: Tensor) -> Tensor:
    """The eigenvectors of a symmetric matrix, as columns, by falling eigenvalue."""
    values, vectors = _eigh(a)
    values, vectors = values.flip(-1), vectors.flip(-1).contiguous()
    if not torch.is_grad_enabled():
        return vectors
    gaps = values.unsqueeze(-2) - values.unsqueeze(-1)  # [i, j]: j - i
    least = 1e3 * torch.finfo(a.dtype).eps * values.abs().amax(-1, keepdim=True).unsqueeze(-1)
    same = gaps.abs() <= least
    slopes = torch.where(same, 0.0, 1.0 / torch.where(same, 1.0, gaps))
    return vectors + vectors @ (slopes * _change(vectors, a))


def singular_vectors(a: Tensor) -> tuple[Tensor, Tensor]:
    """The left and the right singular vectors, as columns, by falling singular value.

    They are constants, without a derivative; NaN where the matrix is not finite.
    """
    a = a.detach()
    finite = a.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    left, _, right = torch.linalg.svd(torch.where(finite, a, 0.0), full_matrices=False)
    return left.where(finite, math.nan), right.mT.where(finite, math.nan)


def orthonormal(a: Tensor) -> Tensor:
    """An orthonormal basis of the columns of a square matrix, each from those up to it: QR."""
    factors = torch.linalg.qr(a.detach())
    q: Tensor = factors[0].contiguous()
    r: Tensor = factors[1]
    if not torch.is_grad_enabled():
        return q
    sizes = r.diagonal(dim1=-2, dim2=-1).abs()
    lost = sizes <= 1e3 * torch.finfo(a.dtype).eps * sizes.amax(-1, keepdim=True)
    r = r + torch.diag_embed(lost.to(r.dtype))
    turn = torch.linalg.solve_triangular(r, q.mT @ (a - a.detach()), upper=True, left=False)
    turn = torch.where(lost.unsqueeze(-2), 0.0, turn).tril(-1)
    return q + q @ (turn - turn.mT)


def inverse_root(a: Tensor, root: int, eps: Any) -> Tensor:
    """``(a + eps I)^(-1 / root)`` of a symmetric matrix without negative eigenvalues."""
    values, vectors = _eigh(a)
    values = values.clamp(min=0.0) + eps
    powers = values ** (-1 / root)
    power: Tensor = (vectors * powers.unsqueeze(-2)) @ vectors.mT
    if not torch.is_grad_enabled():
        return power
    x, y = values.unsqueeze(-1), values.unsqueeze(-2)
    same = (x - y).abs() <= torch.finfo(a.dtype).eps ** 0.5 * torch.maximum(x, y)
    middle = -1 / root * (0.5 * (x + y)) ** (-1 / root - 1)
    rise = powers.unsqueeze(-1) - powers.unsqueeze(-2)
    slopes = torch.where(same, middle, rise / torch.where(same, 1.0, x - y))
    slope: Tensor = vectors @ (slopes * _change(vectors, a)) @ vectors.mT
    return power + slope


def _eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues, rising, and the eigenvectors; NaN where the matrix is not finite.

    LAPACK gives up there, and the error would reach who skips such steps, as `skip_if` does. In
    float64, since the solver of float32 returns NaN, or an error, for some matrices of low rank.
    """
    a = a.detach()
    finite = a.isfinite().all(-1).all(-1)
    each = finite.unsqueeze(-1)
    wide = double(torch.where(each.unsqueeze(-1), a, 0.0))
    values, vectors = (x.to(a.dtype) for x in torch.linalg.eigh(wide))
    return values.where(each, math.nan), vectors.where(each.unsqueeze(-1), math.nan)


def _change(vectors: Tensor, a: Tensor) -> Tensor:
    """The change of `a`, which is zero and has a slope, in the basis of its eigenvectors."""
    change: Tensor = vectors.mT @ (a - a.detach()) @ vectors
    return change
