"""Second moments of matrices by row and by column."""

import torch
from torch import Tensor


def averaged(p: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Zeros like `p`, with length 1 in one dimension."""
    shape = [1 if i == dim % p.dim() else n for i, n in enumerate(p.shape)]
    return torch.zeros(shape, dtype=dtype, device=p.device)


def mean_over(x: Tensor, dim: int) -> Tensor:
    """The mean over a dimension, which stays with length 1; 0 if there is nothing."""
    return x.sum(dim, keepdim=True) / max(x.shape[dim], 1)
