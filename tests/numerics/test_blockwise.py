"""Numbers in 8 and 4 bits: the books of the authors' packages, and blocks."""

import bitsandbytes.functional
import pytest
import torch
from torchao.optim import quant_utils, subclass_4bit

from funcopt._numerics import blockwise

TORCHAO = {
    "dynamic8": lambda: quant_utils.create_dynamic_map(True),
    "dynamic8unsigned": lambda: quant_utils.create_dynamic_map(False),
    "dynamic4": subclass_4bit.get_qmap_signed,
    "linear4": subclass_4bit.get_qmap_unsigned,
}


@pytest.mark.parametrize("name", blockwise.BOOKS)
def test_books_are_those_of_torchao(name):
    assert list(blockwise.BOOKS[name]) == list(TORCHAO[name]())


@pytest.mark.parametrize(("name", "signed"), [("dynamic8", True), ("dynamic8unsigned", False)])
def test_books_of_8_bits_are_those_of_bitsandbytes(name, signed):
    theirs = bitsandbytes.functional.create_dynamic_map(signed)
    assert torch.equal(torch.tensor(blockwise.BOOKS[name]), theirs)


def numbers(name):
    low = 0.0 if name in ("dynamic8unsigned", "linear4") else -1.0
    linear = torch.linspace(low, 1.0, 4001)
    small = torch.logspace(-9, 0, 4001)
    return torch.cat([linear, small, -small if low else small])


@pytest.mark.parametrize("name", blockwise.BOOKS)
def test_a_code_is_the_place_of_the_nearest_number(name):
    x = numbers(name)
    codes = blockwise.encoded(x, name)
    assert codes.dtype == torch.uint8
    table = torch.tensor(blockwise.BOOKS[name], dtype=torch.float64)
    nearest = (x.double().unsqueeze(1) - table).abs().amin(1)
    found = (x.double() - table[codes.long()]).abs()
    assert bool((found <= nearest + 1e-7).all())
    assert torch.equal(blockwise.decoded(codes, name).double(), table[codes.long()])


@pytest.mark.parametrize("name", blockwise.BOOKS)
def test_codes_are_those_of_torchao(name):
    x, table = numbers(name), torch.tensor(blockwise.BOOKS[name])
    bits = 4 if len(table) == 16 else 8
    theirs = getattr(quant_utils, f"quantize_{bits}bit_with_qmap")(x, table)
    middle = torch.isin(x, torch.tensor(blockwise.BOUNDARIES[name]))
    assert torch.equal(blockwise.encoded(x, name)[~middle], theirs[~middle])


@pytest.mark.parametrize("name", [*blockwise.BOOKS, "float8"])
def test_what_was_read_is_stored_as_it_was(name):
    codes = torch.arange(16 if "4" in name else 256, dtype=torch.uint8)
    found = blockwise.decoded(codes, name)
    if name == "float8":
        codes, found = codes[found.isfinite()], found[found.isfinite()]
    assert torch.equal(blockwise.encoded(found, name), codes)


@pytest.mark.parametrize("shape", [(), (1,), (255,), (256,), (3, 100), (2, 256), (0, 4)], ids=str)
def test_blocks_follow_one_another_row_by_row(shape):
    x = torch.linspace(-3, 1, max(torch.Size(shape).numel(), 1))[: torch.Size(shape).numel()]
    found = blockwise.block_amax(x.reshape(shape), 256)
    assert found.shape == shape
    parts = [part.abs().amax().expand(part.shape) for part in x.split(256) if part.numel()]
    assert torch.equal(found.flatten(), torch.cat(parts) if parts else x)
    scale = blockwise.for_blocks(found, 256)
    assert len(scale) == blockwise.blocks_of(x.numel(), 256)
    assert torch.equal(blockwise.for_entries(scale, 256, found), found)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 128])
def test_two_codes_lie_in_one_number_the_first_in_its_upper_half(count):
    codes = torch.arange(count, dtype=torch.uint8) % 16
    found = blockwise.packed(codes)
    assert len(found) == blockwise.blocks_of(count, 2)
    assert torch.equal(blockwise.unpacked(found, codes), codes)
    if count > 1:
        assert found[0] == (codes[0] << 4) | codes[1]


def test_the_largest_magnitude_of_a_block_with_nan_is_nan():
    x = torch.ones(512)
    x[300] = float("nan")
    found = blockwise.block_amax(x, 256)
    assert bool(found[:256].eq(1).all())
    assert bool(found[256:].isnan().all())
