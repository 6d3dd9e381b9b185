"""What kernels call that Triton has no function for, or one that rounds otherwise than torch."""

import triton
import triton.language as tl


@triton.jit
def divided(x, y):
    """IEEE division: `/` is approximate in float32."""
    if x.dtype == tl.float32:
        found = tl.div_rn(x, y)
    else:
        found = x / y
    return found


@triton.jit
def rooted(x):
    """IEEE square root: `tl.sqrt` is approximate in float32."""
    if x.dtype == tl.float32:
        found = tl.sqrt_rn(x)
    else:
        found = tl.sqrt(x)
    return found


@triton.jit
def largest(x, y):
    """The maximum, or NaN if one of them is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smallest(x, y):
    """The minimum, or NaN if one of them is."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def from_nearer(x, y, weight):
    """`lerp`, from the nearer end, as torch."""
    near = tl.abs(weight) < 0.5
    return tl.fma(tl.where(near, weight, weight - 1), y - x, tl.where(near, x, y))


@triton.jit
def powered(x, y):
    """X to the power of y, in float64: 2 to the power of y log2(x), rounded but little.

    log2(x) is the exponent of x, and the logarithm of what is left, which is near 1.
    """
    size = tl.abs(x).to(tl.float64)
    y = tl.zeros_like(size) + y.to(tl.float64)
    subnormal = size < 2.2250738585072014e-308
    bits = tl.where(subnormal, size * 18014398509481984.0, size).to(tl.int64, bitcast=True)
    exponent = ((bits >> 52) & 0x7FF) - tl.where(subnormal, 1023 + 54, 1023)
    rest = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    above = rest > 1.4142135623730951
    exponent = (exponent + tl.where(above, 1, 0)).to(tl.float64)
    rest = tl.log2(tl.where(above, rest * 0.5, rest))
    whole = tl.floor(y * exponent + 0.5)
    found = tl.exp2(tl.fma(y, exponent, -whole) + y * rest) * tl.exp2(whole)
    infinity = tl.full((), float("inf"), tl.float64)
    found = tl.where(size == 0, tl.where(y > 0, 0.0, infinity), found)
    found = tl.where(size == infinity, tl.where(y > 0, infinity, 0.0), found)
    endless = tl.where(size == 1, 1.0, tl.where((size > 1) == (y > 0), infinity, 0.0))
    found = tl.where(tl.abs(y) == infinity, endless, found)
    odd = tl.floor(y * 0.5) * 2 != y
    found = tl.where((x < 0) & odd, -found, found)
    found = tl.where((x < 0) & (tl.floor(y) != y) & (size != infinity), float("nan"), found)
    found = tl.where((x != x) | (y != y), float("nan"), found)
    return tl.where((y == 0) | (x == 1), 1.0, found).to(x.dtype)


@triton.jit
def exp_less_one(x):
    """exp(x) - 1, also near zero."""
    u = tl.exp(x)
    v = u - 1
    near = divided(v * x, tl.log(tl.where((u == 1) | (u == 0), 2.0, u).to(x.dtype)))
    return tl.where(u == 1, x, tl.where((tl.abs(x) > 1) | (x != x), v, near))


@triton.jit
def log_of_more(x):
    """log(1 + x), also near zero."""
    u = 1 + x
    v = u - 1
    near = divided(tl.log(u) * x, tl.where(v == 0, 1.0, v).to(x.dtype))
    return tl.where(v == 0, x, tl.where(tl.abs(x) > 1, tl.log(u), near))


@triton.jit
def tangent(x):
    """The hyperbolic tangent."""
    t = exp_less_one(-2 * tl.abs(x))
    size = divided(-t, t + 2)
    return tl.where(x < 0, -size, tl.where(x == 0, x, size))


@triton.jit
def is_negative(x):
    """Whether the sign bit is set."""
    if x.dtype == tl.float32:
        bits = x.to(tl.int32, bitcast=True)
    else:
        bits = x.to(tl.int64, bitcast=True)
    return bits < 0


@triton.jit
def scalar(slot):
    """A scalar in float64, where it lies; the highest bits of its address say what it is."""
    kind = slot >> 60
    place = slot & 0xFFFFFFFFFFFFFFF
    double = tl.load(place.to(tl.pointer_type(tl.float64)), mask=kind == 0, other=0.0)
    single = tl.load(place.to(tl.pointer_type(tl.float32)), mask=kind == 1, other=0.0)
    whole = tl.load(place.to(tl.pointer_type(tl.int64)), mask=kind == 2, other=0)
    flag = tl.load(place.to(tl.pointer_type(tl.int8)), mask=kind == 3, other=0)
    found = tl.where(kind == 1, single.to(tl.float64), double)
    found = tl.where(kind == 2, whole.to(tl.float64), found)
    return tl.where(kind == 3, flag.to(tl.float64), found)
