"""Numbers in 16 bits, and what of a number in 32 bits they leave out.

All of these see float32 tensors; what they return in that dtype is exact in 16 bits.
"""

import torch
from torch import Tensor

from .primitive import primitive

HIGH = -65536  # the mask of the upper 16 bits


def rounded_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x`, rounded to the nearest number of a narrower dtype."""
    return x.to(dtype).to(x.dtype)


@primitive
def truncated(x: Tensor) -> Tensor:
    """`x`, rounded to bfloat16 toward zero: its upper 16 bits. NaN stays NaN."""
    found = (x.view(torch.int32) & HIGH).view(torch.float32)
    return torch.where(x.isnan(), x, found)


@primitive
def low_half(x: Tensor) -> Tensor:
    """The lower 16 bits of `x`, as int16."""
    low = x.view(torch.int32) & 0xFFFF
    return (low - ((low >> 15) << 16)).to(torch.int16)


@primitive
def with_low_half(x: Tensor, low: Tensor) -> Tensor:
    """The number whose upper 16 bits are those of `x`; infinities and NaN stay what they are."""
    found = ((x.view(torch.int32) & HIGH) | (low.to(torch.int32) & 0xFFFF)).view(torch.float32)
    return torch.where(x.isfinite(), found, x)


@primitive
def rounded_at_random(x: Tensor, noise: Tensor) -> Tensor:
    """`x`, rounded to one of the two nearest numbers of bfloat16: on average it is `x`.

    The farther of both is taken in as many of 2^16 cases as `x` is units in the last place of
    float32 away from the nearer to zero: `noise` is whole, in [0, 2^16). A number of bfloat16,
    NaN and infinities stay; what is beyond the largest finite number becomes that.
    """
    bits = x.view(torch.int32)
    found = ((bits + noise.to(torch.int32)) & HIGH).view(torch.float32)
    found = torch.where(found.isfinite(), found, (bits & HIGH).view(torch.float32))
    return torch.where(x.isfinite(), found, x)


SMALLEST = {torch.bfloat16: (7, -126), torch.float16: (10, -14)}
"""The bits of a mantissa, and the exponent of the smallest normal number."""

BY_NAME = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _half_of_spacing(x: Tensor, dtype: str) -> Tensor:
    """Half of the distance from `x` to the next number of a dtype, away from zero."""
    mantissa, least = SMALLEST[BY_NAME[dtype]]
    exponent = ((x.view(torch.int32) >> 23) & 0xFF) - 127
    exponent = exponent.clamp(min=least) - mantissa - 1
    # As a product of two, since the smallest is no normal number.
    high = ((exponent + 60 + 127) << 23).view(torch.float32)
    return high * 2.0**-60


@primitive
def residual(x: Tensor, stored: Tensor, dtype: str) -> Tensor:
    """What `stored`, which is `x` in 16 bits, lacks: int8, in 1/127 of half of its spacing."""
    part = (x - stored) / _half_of_spacing(stored, dtype)
    part = torch.where(part.isfinite(), part, 0.0)
    return (127 * part.clamp(-1, 1)).round().to(torch.int8)


@primitive
def with_residual(stored: Tensor, part: Tensor, dtype: str) -> Tensor:
    """The inverse of `residual`, up to rounding; infinities and NaN stay what they are."""
    found = stored + part.to(torch.float32) * (1 / 127) * _half_of_spacing(stored, dtype)
    return torch.where(stored.isfinite() & (part != 0), found, stored)  # minus zero stays
