"""What of a number in 32 bits is kept in 16 of them, and what is kept beside."""

import pytest
import torch

from funcopt._numerics import narrow

LARGEST = torch.finfo(torch.float32).max
OF_BFLOAT16 = torch.finfo(torch.bfloat16).max
EXTREMES = torch.tensor(
    [
        *(0.0, -0.0, 1.0, -1.0, LARGEST, -LARGEST, OF_BFLOAT16, -OF_BFLOAT16),
        *(2.0**-126, 1e-40, -1e-40, float("inf"), -float("inf"), float("nan"), -float("nan")),
    ]
)
NARROWEST_NAN = torch.tensor([0x7F800001], dtype=torch.int32).view(torch.float32)
NUMBERS = torch.cat([EXTREMES, NARROWEST_NAN, torch.randn(4096, generator=torch.manual_seed(0))])


def same(x, y):
    """Whether two tensors hold the same bits, NaN being NaN."""
    return torch.equal(x.nan_to_num(nan=7.0), y.nan_to_num(nan=7.0)) and torch.equal(
        x.signbit() & ~x.isnan(), y.signbit() & ~y.isnan()
    )


def test_both_halves_are_the_number():
    high, low = narrow.truncated(NUMBERS), narrow.low_half(NUMBERS)
    assert low.dtype == torch.int16
    assert same(high.bfloat16().float(), high)
    assert same(narrow.with_low_half(high.bfloat16().float(), low), NUMBERS)


def test_half_of_a_number_that_somebody_has_changed_makes_no_nan_of_infinity():
    infinite = torch.tensor([float("inf"), -float("inf")])
    assert same(narrow.with_low_half(infinite, torch.tensor([5, -5], dtype=torch.int16)), infinite)


@pytest.mark.parametrize("noise", [0, 1, 2**15, 2**16 - 1])
def test_at_random_a_number_becomes_one_of_its_neighbors(noise):
    found = narrow.rounded_at_random(NUMBERS, torch.full_like(NUMBERS, noise))
    assert same(found.bfloat16().float(), found)
    near_zero = narrow.truncated(NUMBERS)
    finite = NUMBERS.isfinite()
    up = (near_zero.view(torch.int32) + 0x10000).view(torch.float32)
    assert bool(((found == near_zero) | (found == up))[finite].all())
    assert same(found[~finite], NUMBERS[~finite])
    assert bool(found[finite].isfinite().all())


def test_at_random_it_is_right_on_average():
    """Of all possible bits, exactly."""
    x = torch.tensor(1.0 + 3 * 2.0**-20)
    noise = torch.arange(2**16)
    found = narrow.rounded_at_random(x.expand(2**16), noise)
    assert found.double().mean().item() == x.double().item()


def test_numbers_of_bfloat16_stay_whatever_the_bits_are():
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    x = x.float()
    for noise in (0, 2**16 - 1):
        assert same(narrow.rounded_at_random(x, torch.full_like(x, noise)), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_eight_bits_more_are_within_half_of_their_unit(dtype):
    x = NUMBERS[NUMBERS.isfinite() & (NUMBERS.abs() < torch.finfo(dtype).max)]
    name = str(dtype).removeprefix("torch.")
    stored = narrow.rounded_to(x, dtype)
    part = narrow.residual(x, stored, name)
    assert part.dtype == torch.int8
    found = narrow.with_residual(stored, part, name)
    next_one = torch.nextafter(stored.abs().to(dtype), torch.tensor(float("inf"), dtype=dtype))
    spacing = (next_one.double() - stored.abs().double()).clamp(min=2.0**-133)
    finite = next_one.isfinite()
    off = (found.double() - x.double()).abs() / spacing
    assert off[finite].max() <= 0.5 * 0.5 / 127 * 1.01
    assert off[finite].max() > 0.4 * 0.5 / 127  # else the bits are not used


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_infinities_and_nan_have_no_rest(dtype):
    x = torch.tensor([float("inf"), -float("inf"), float("nan"), OF_BFLOAT16])
    part = narrow.residual(x, x, dtype)
    assert part.tolist() == [0, 0, 0, 0]
    assert same(narrow.with_residual(x, torch.full_like(part, 100), dtype)[:3], x[:3])
