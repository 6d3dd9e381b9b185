"""How kernels store entries in fewer bits: what `narrow.py`, `blockwise.py` and `random.py` say."""

import triton
import triton.language as tl

from ._functions import divided, largest


@triton.jit
def bits_of(x):
    """The bits of a number."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def of_bits(bits):
    """The number with these bits."""
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def is_finite(x):
    """Whether it is neither infinite nor NaN."""
    return tl.abs(x) < float("inf")


@triton.jit
def cut_off(x):
    """Rounded to bfloat16 toward zero."""
    return tl.where(x != x, x, of_bits(bits_of(x) & -65536))


@triton.jit
def lower_bits(x):
    """The lower 16 bits, as a number with a sign."""
    low = bits_of(x) & 0xFFFF
    return (low - ((low >> 15) << 16)).to(tl.float32)


@triton.jit
def with_lower_bits(x, low):
    """The number with other lower bits."""
    found = of_bits((bits_of(x) & -65536) | (low.to(tl.int32) & 0xFFFF))
    return tl.where(is_finite(x), found, x)


@triton.jit
def up_or_down(x, noise):
    """Rounded to bfloat16, up or down."""
    bits = bits_of(x)
    found = of_bits((bits + noise.to(tl.int32)) & -65536)
    found = tl.where(is_finite(found), found, of_bits(bits & -65536))
    return tl.where(is_finite(x), found, x)


@triton.jit
def half_of_spacing(x, MANTISSA: tl.constexpr, LEAST: tl.constexpr):
    """Half of the distance to the next number of a dtype, away from zero."""
    exponent = tl.maximum(((bits_of(x) >> 23) & 0xFF) - 127, LEAST) - MANTISSA - 1
    return of_bits((exponent + 60 + 127) << 23) * 8.673617379884035e-19


@triton.jit
def to_even(x):
    """The nearest whole number, to even ones in the middle, of a small number."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def rest_of(x, stored, MANTISSA: tl.constexpr, LEAST: tl.constexpr):
    """What 16 bits lack, in 8 bits."""
    part = divided(x - stored, half_of_spacing(stored, MANTISSA, LEAST))
    found = to_even(127 * tl.minimum(tl.maximum(part, -1.0), 1.0))
    return tl.where(is_finite(part), found, 0.0)


@triton.jit
def with_rest(stored, part, MANTISSA: tl.constexpr, LEAST: tl.constexpr):
    """The number, with what 16 bits lack."""
    found = stored + part * 0.007874015718698502 * half_of_spacing(stored, MANTISSA, LEAST)
    return tl.where(is_finite(stored) & (part != 0), found, stored)


@triton.jit
def joined_word(low, high):
    """32 bits, kept as those of a number."""
    return of_bits(low.to(tl.int32) | (high.to(tl.int32) << 16))


@triton.jit
def mixed_words(a, b):
    """The exclusive or of two words."""
    return of_bits(bits_of(a) ^ bits_of(b))


@triton.jit
def random_bits(key, other, begin, place, BLOCK: tl.constexpr):
    """16 random bits for each of the entries from `place` on: eight entries share a block."""
    LANES: tl.constexpr = BLOCK // 8
    groups = begin.to(tl.uint32, bitcast=True).to(tl.int64) + place // 128
    block = groups * 16 + tl.arange(0, LANES)
    a = (block & 0xFFFFFFFF).to(tl.uint32)
    b = (block >> 32).to(tl.uint32)
    c = tl.zeros_like(a)
    d = tl.zeros_like(a)
    k = tl.zeros_like(a) + key.to(tl.uint32, bitcast=True)
    m = tl.zeros_like(a) + other.to(tl.uint32, bitcast=True)
    first = tl.full((), 0xD2511F53, tl.uint32)
    second = tl.full((), 0xCD9E8D57, tl.uint32)
    for _ in tl.static_range(10):
        high = tl.umulhi(c, tl.zeros_like(c) + second) ^ b ^ k
        other_high = tl.umulhi(a, tl.zeros_like(a) + first) ^ d ^ m
        b = c * second
        d = a * first
        a = high
        c = other_high
        k = k + tl.full((), 0x9E3779B9, tl.uint32)
        m = m + tl.full((), 0xBB67AE85, tl.uint32)
    even = tl.join(
        tl.join(a & 0xFFFF, c & 0xFFFF),
        tl.join(b & 0xFFFF, d & 0xFFFF),
    )
    odd = tl.join(tl.join(a >> 16, c >> 16), tl.join(b >> 16, d >> 16))
    found = tl.reshape(tl.join(even, odd), (BLOCK // 128, 16, 8))
    return tl.reshape(tl.permute(found, (0, 2, 1)), (BLOCK,)).to(tl.int32).to(tl.float32)


@triton.jit
def amax_of_blocks(x, here, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """The largest magnitude of the block of each entry, of those that are there."""
    size = tl.where(here, tl.abs(x), 0.0)
    found = tl.reduce(tl.reshape(size, (BLOCK // SIZE, SIZE)), 1, largest)
    return tl.reshape(tl.broadcast_to(found[:, None], (BLOCK // SIZE, SIZE)), (BLOCK,))


@triton.jit
def place_in_book(x, BOUNDARIES, BITS: tl.constexpr):
    """The place of the nearest number in a book."""
    code = tl.zeros_like(x).to(tl.int32)
    for step in tl.static_range(BITS):
        half: tl.constexpr = 1 << (BITS - 1 - step)
        above = x >= tl.load(BOUNDARIES + code + (half - 1))
        code += tl.where(above | (x != x), half, 0)
    return code.to(tl.float32)


@triton.jit
def number_at(code, VALUES):
    """The number at a place of a book."""
    return tl.load(VALUES + code.to(tl.int32))


@triton.jit
def to_float8(x):
    """The bits of float8_e4m3fn, of 448 times a number from -1 to 1."""
    size = tl.abs(x * 448.0)
    exponent = tl.maximum((bits_of(size) >> 23) - 127, -6)
    steps = to_even(size * of_bits((3 - exponent + 127) << 23)).to(tl.int32)
    code = (exponent + 7) * 8 + steps - 8
    code = tl.where(x != x, 127, code)
    return (code + tl.where(bits_of(x) < 0, 128, 0)).to(tl.float32)


@triton.jit
def from_float8(code):
    """The inverse."""
    bits = code.to(tl.int32)
    exponent = (bits >> 3) & 15
    digits = (bits & 7) + tl.where(exponent == 0, 0, 8)
    size = digits.to(tl.float32) * of_bits((tl.maximum(exponent, 1) - 10 + 127) << 23)
    size = tl.where((bits & 127) == 127, float("nan"), size)
    return divided(tl.where(bits > 127, -size, size), tl.full((), 448.0, tl.float32))


@triton.jit
def pairs(codes, here, BLOCK: tl.constexpr):
    """Two codes of 4 bits in one number."""
    two = tl.reshape(tl.where(here, codes.to(tl.int32), 0), (BLOCK // 2, 2))
    shift = tl.where(tl.arange(0, 2) == 0, 4, 0)
    return tl.sum(two << shift[None, :], 1)
