"""Products of matrices: added to others, and those that are symmetric."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function


def add_product(x: Tensor, of_x: Any, y: Tensor, z: Tensor, of_yz: Any = 1.0) -> Tensor:
    """``of_x x + of_yz y z``, rounded once where both factors are numbers."""
    if isinstance(of_x, Tensor) or isinstance(of_yz, Tensor):
        total: Tensor = of_x * x + of_yz * (y @ z)
        return total
    if x.dim() == 2:
        return torch.addmm(x, y, z, beta=of_x, alpha=of_yz)
    return torch.baddbmm(x, y, z, beta=of_x, alpha=of_yz)


def symmetric(
    x: Tensor, y: Tensor, z: Tensor | None = None, of_z: Any = 1.0, of_xy: Any = 1.0
) -> Tensor:
    """``of_xy X Y``, which is symmetric, plus ``of_z Z``.

    One function, for what overrides those of torch.
    """
    if has_torch_function((x, y)):
        made: Tensor = handle_torch_function(symmetric, (x, y), x, y, z, of_z, of_xy)
        return made

    def total(x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        return x @ y if z is None else add_product(z, of_z, x, y, of_xy)

    def piece(rows: slice, columns: slice) -> Tensor:
        own = None if z is None else z[..., rows, columns]
        return total(x[..., rows, :], y[..., columns], own)

    return _mirrored(x, piece) if _is_cut(x) else total(x, y, z)


ROWS = 256
"""Of the pieces of a symmetric matrix: smaller ones save less than it takes to copy them."""


def _is_cut(x: Tensor) -> bool:
    """Whether a symmetric matrix with the rows of `x` is computed in pieces, on one side.

    A GPU works on all of it at once, and waits for no more than a launch.
    """
    return x.device.type == "cpu" and x.shape[-2] >= 2 * ROWS


def _mirrored(x: Tensor, piece: Callable[[slice, slice], Tensor]) -> Tensor:
    """The symmetric matrix with the rows of `x` of which `piece` makes these rows and columns."""
    m = x.shape[-2]
    begins = range(0, m, ROWS)
    pieces = [piece(slice(begin, begin + ROWS), slice(begin, None)) for begin in begins]
    whole = pieces[0].new_empty(*x.shape[:-2], m, m)  # for all of a batch of `vmap`, as they are
    for begin, own in zip(begins, pieces, strict=True):
        rows = slice(begin, begin + ROWS)
        whole[..., rows, begin:] = own
        whole[..., begin + ROWS :, rows] = own[..., ROWS:].mT
    return whole
