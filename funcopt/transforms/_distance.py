"""Scalars of the methods that estimate the distance to the solution."""

from typing import Any

import torch
from torch import Tensor

from .._numerics.scalars import beside, bias_correction, double


def begun(like: Tensor, value: Any) -> Tensor:
    """`value` as a 0-d tensor on the device of `like`, in float64 where that has it.

    A distance of 1e-6 multiplies and divides: its sums are kept more exactly than the tensors.
    """
    return double(double(torch.zeros_like(like)) + value)


def corrected(betas: tuple[Any, Any], step: Any) -> Any:
    """Adam's bias correction of both moments, as one factor."""
    b1, b2 = betas
    return bias_correction(b2, step) ** 0.5 / bias_correction(b1, step)


def quotient(numerator: Tensor, denominator: Tensor, otherwise: Tensor) -> Tensor:
    """``numerator / denominator``; `otherwise`, with derivative 0, where the denominator is 0."""
    nothing = denominator == 0
    return torch.where(nothing, otherwise, numerator / torch.where(nothing, 1.0, denominator))


def at_most(x: Tensor, d: Tensor, rate: Any) -> Tensor:
    """``min(x, d rate)``, where an infinite `rate` means no limit; all derivatives are finite."""
    rate = beside(d, rate)
    free = rate.isinf()
    limited = torch.minimum(x, (d * torch.where(free, 1.0, rate)).to(x.dtype))
    return torch.where(free, x, limited)
