"""Functions of matrices, or of batches of them: (..., m, n)."""

import math
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .scalars import double


def newton_schulz(
    x: Tensor, coefficients: tuple[Any, Any, Any], steps: int, eps: Any, dtype: torch.dtype | None
) -> Tensor:
    """`x` with its singular values pushed towards 1, by a quintic iteration in `dtype`.

    With coefficients (a, b, c), from ``X / max(norm(X), eps)``:

        X <- a X + (b A + c A A) X,   A = X X^T

    The result has the dtype of `x`; without a `dtype`, it is computed in that.
    """
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    wide = x.flatten(0, -3) if x.dim() > 3 else x
    rounded = _rounding(x.dtype if dtype is None else dtype, x.device)
    wide = rounded(wide.mT if tall else wide)
    norm = rounded(torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True))
    wide = rounded(wide / norm.clamp(min=eps))
    for _ in range(steps):
        gram = rounded(wide @ wide.mT)
        wide = rounded(_add(wide, a, rounded(_add(gram, b, gram, gram, c)), wide))
    return (wide.mT if tall else wide).to(x.dtype).reshape(x.shape)


def _rounding(dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What rounds a tensor to `dtype`.

    Products of bfloat16 are added up in float32 and then rounded. A processor without instructions
    for them is nearly twice as fast, or more, at the same in float32.
    """
    if dtype is torch.bfloat16 and device.type == "cpu" and not HAS_BFLOAT16_PRODUCTS:
        return lambda x: x.to(dtype).to(torch.float32)
    return lambda x: x.to(dtype)


HAS_BFLOAT16_PRODUCTS = (
    platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_amx_tile_supported()
)


def _add(x: Tensor, of_x: Any, y: Tensor, z: Tensor, of_yz: Any = 1.0) -> Tensor:
    """``of_x x + of_yz y z``, rounded once where both factors are numbers."""
    if isinstance(of_x, Tensor) or isinstance(of_yz, Tensor):
        total: Tensor = of_x * x + of_yz * (y @ z)
        return total
    if x.dim() == 2:
        return torch.addmm(x, y, z, beta=of_x, alpha=of_yz)
    return torch.baddbmm(x, y, z, beta=of_x, alpha=of_yz)


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
