"""How slots are stored in fewer bits: each way is the type of what is stored."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._numerics import blockwise, narrow, shards
from .._numerics.scalars import is_unset

Format = Literal["8bit", "4bit", "fp8", "bf16+8", "bf16"]
"""How `quantized` stores slots."""

LEAST = 1e-12
"""By which blocks are divided that are zero, or nearly."""


class CodesAndScale(NamedTuple):
    """What is stored of numbers in blocks."""

    codes: Tensor  # uint8, like p; or (ceil(n / 2),), where two of them are in one number
    scale: Tensor  # float32, one for each block: the largest magnitude in it

    def numbers(self, like: Tensor) -> Tensor:
        """What is stored, in float32, shaped and placed like the parameter."""
        return _numbers(self, like)


class Codes(CodesAndScale):
    """Codes of 8 bits, and a scale for every 256 entries: of numbers of either sign."""

    __slots__ = ()
    per = MappingProxyType({"scale": 256})
    book = "dynamic8"


class PositiveCodes(Codes):
    """The same of numbers that are not negative."""

    __slots__ = ()
    book = "dynamic8unsigned"


class Float8Codes(Codes):
    """Numbers in float8_e4m3fn, over a scale for every 256 entries."""

    __slots__ = ()
    book = "float8"


class HalfCodes(CodesAndScale):
    """Codes of 4 bits, two in one number, and a scale for every 128 entries."""

    __slots__ = ()
    per = MappingProxyType({"codes": 2, "scale": 128})
    book = "dynamic4"


class PositiveHalfCodes(HalfCodes):
    """The same of numbers that are not negative."""

    __slots__ = ()
    book = "linear4"


class WithRest(NamedTuple):
    """Numbers in bfloat16, and 8 bits of what that drops."""

    value: Tensor  # bfloat16, like p
    rest: Tensor  # int8, like p

    def numbers(self, like: Tensor) -> Tensor:
        """What is stored, in float32, shaped and placed like the parameter."""
        return _numbers(self, like)


STORED = (CodesAndScale, WithRest)

FORMATS: Mapping[Format, tuple[Any, Any]] = {
    "8bit": (Codes, PositiveCodes),
    "4bit": (HalfCodes, PositiveHalfCodes),
    "fp8": (Float8Codes, Float8Codes),
    "bf16+8": (WithRest, WithRest),
    "bf16": (torch.bfloat16, torch.bfloat16),
}
"""What a format makes of a slot, and of one that is not negative."""


def initial(how: Any, x: Tensor) -> Any:
    """What is stored, in one of these ways, of the slot `x` of a new state."""
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    if isinstance(how, torch.dtype):
        return x.to(how)
    part = shards.local(x)
    if how is WithRest:
        return WithRest(*(_like(one, x) for one in _with_rest(part)))
    per = how.per
    made = stored(how, part)
    if how.book != "float8":  # whose codes have a zero with a sign: it marks what is not set yet
        unset = is_unset(blockwise.for_blocks(part, per["scale"]))
        made = made._replace(scale=torch.where(unset, -made.scale, made.scale))
    scale = _lengthened(made.scale, blockwise.blocks_of(shards.largest_part(x), per["scale"]))
    codes = made.codes
    if "codes" in per:
        codes = _lengthened(codes, blockwise.blocks_of(shards.largest_part(x), per["codes"]))
        return how(shards.in_rows(codes, x), shards.in_rows(scale, x))
    return how(_like(codes, x), shards.in_rows(scale, x))


def _like(part: Tensor, x: Tensor) -> Tensor:
    return shards.sharded_as(part, x) if shards.is_sharded(x) else part


def _lengthened(x: Tensor, length: int) -> Tensor:
    """A vector with zeros behind it: all ranks have as many numbers."""
    return torch.nn.functional.pad(x, (0, length - len(x)))


def loaded(own: Any, like: Tensor) -> Tensor:
    """The slot, in the dtype of `like`, which is shaped like the parameter."""
    if isinstance(own, WithRest):
        value = own.value.to(torch.float32)
        return narrow.with_residual(value, own.rest, "bfloat16").to(like.dtype)
    codes = blockwise.unpacked(own.codes, like) if "codes" in own.per else own.codes
    scale = blockwise.for_entries(own.scale.to(torch.float32), own.per["scale"], like)
    return (blockwise.decoded(codes, own.book) * scale).to(like.dtype)


def _numbers(own: Any, p: Tensor) -> Tensor:
    p = torch.view_as_real(p.resolve_conj()) if p.is_complex() else p
    part = shards.local(p)
    local = type(own)(*map(shards.local, own))
    return _like(loaded(local, torch.empty_like(part, dtype=torch.float32)), p)


def stored(how: Any, x: Tensor) -> Any:
    """What is stored, in a way that has codes or a rest, of a slot."""
    if how is WithRest:
        return _with_rest(x)
    x, size = x.to(torch.float32), how.per["scale"]
    scale = blockwise.block_amax(x, size)
    codes = blockwise.encoded(x / scale.clamp(min=LEAST), how.book)
    codes = blockwise.packed(codes) if "codes" in how.per else codes
    return how(codes, blockwise.for_blocks(scale, size))


def _with_rest(x: Tensor) -> WithRest:
    x = x.to(torch.float32)
    value = narrow.rounded_to(x, torch.bfloat16)
    return WithRest(value.to(torch.bfloat16), narrow.residual(x, value, "bfloat16"))


def stored_again(own: Any, x: Tensor) -> Any:
    """The same of a new value, in the place of `own`."""
    made = stored(type(own), x)
    if isinstance(own, WithRest) or getattr(type(x), "stands_in", False):
        return made
    codes = _lengthened(made.codes, len(own.codes)) if "codes" in own.per else made.codes
    return type(own)(codes, _lengthened(made.scale, len(own.scale)))
