"""Newton-Schulz iterations: of symmetric products one side of the diagonal is computed."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from funcopt._numerics import newton_schulz as iterations
from funcopt._numerics import products

SHAPES = [(512, 512), (700, 600), (513, 1100), (1100, 515), (2, 520, 530), (3, 1, 530, 520)]


def made(x, dtype=None, coefficients="jordan", *options, steps=5):
    triples = iterations.triples(coefficients, steps)
    return iterations.newton_schulz(x, triples, 1e-7, dtype, *options)


def at_once(monkeypatch):
    monkeypatch.setattr(products, "ROWS", sys.maxsize)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normalization", ["clamp", "aol"])
@pytest.mark.parametrize("method", ["standard", "gram"])
def test_pieces_are_those_of_the_whole_product(shape, normalization, method, monkeypatch):
    x, options = torch.randn(shape, dtype=torch.float64), (normalization, 1.0, method)
    in_pieces = made(x, None, "jordan", *options)
    at_once(monkeypatch)
    torch.testing.assert_close(in_pieces, made(x, None, "jordan", *options), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "share"), [(511, 1), (512, 3 / 4), (1024, 5 / 8)])
def test_half_of_the_products_is_left_out(rows, share):
    """That of a matrix and its transpose, and that of its square; the last one is not symmetric."""
    x = torch.randn(rows, 2 * rows)
    with FlopCounterMode(display=False) as counted:
        made(x, coefficients=[(2.0, -1.5, 0.5)])
    symmetric = 2 * rows**2 * (2 * rows) + 2 * rows**3
    assert counted.get_total_flops() == 5 * (share * symmetric + 2 * rows**2 * (2 * rows))


def test_each_matrix_of_a_batch_is_its_own_under_vmap():
    x = torch.randn(2, 520, 530, dtype=torch.float64)
    found = torch.func.vmap(made)(x)
    torch.testing.assert_close(found, torch.stack(list(map(made, x))), rtol=1e-9, atol=1e-9)


def test_derivatives_pass_through_pieces(monkeypatch):
    x, weight = torch.randn(2, 515, 520, dtype=torch.float64)

    def gradient():
        return torch.func.grad(lambda x: (weight * made(x)).sum())(x)

    in_pieces = gradient()
    at_once(monkeypatch)
    torch.testing.assert_close(in_pieces, gradient(), rtol=1e-8, atol=1e-8)


# Two iterations at once, "gram": fewer products, and the same result.

GRAM = ("clamp", 1.0, "gram")


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def of_condition(rows, columns, condition):
    """Singular values from 1 to one over this, evenly by their logarithm."""
    left, right = torch.linalg.qr(drawn(rows, rows)).Q, torch.linalg.qr(drawn(columns, rows)).Q
    values = torch.logspace(0, -torch.tensor(condition).log10().item(), rows, dtype=torch.float64)
    return left @ torch.diag(values) @ right.mT


@pytest.mark.parametrize("normalization", ["clamp", "add", "aol", "schatten4"])
@pytest.mark.parametrize("coefficients", iterations.COEFFICIENTS)
@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (2, 3, 4, 9), (1, 7), (4, 6), (0, 3)], ids=str)
def test_two_at_once_are_two_one_after_the_other(shape, coefficients, normalization):
    x = drawn(*shape)
    for steps in (0, 1, 2, 5, 8):
        one_by_one, two_at_once = (
            made(x, None, coefficients, normalization, 1.0, method, steps=steps)
            for method in ("standard", "gram")
        )
        torch.testing.assert_close(two_at_once, one_by_one, rtol=0, atol=1e-10)


@pytest.mark.parametrize("columns", [96, 100, 144])
def test_matrices_that_are_not_long_are_made_one_by_one(columns):
    x = drawn(96, columns).float()
    assert torch.equal(made(x, torch.bfloat16, "jordan", *GRAM), made(x, torch.bfloat16))


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_they_need_fewer_operations(ratio):
    """Of pairs, the first five of six products are of the size of the shorter side."""
    rows, count = 32, {}
    for method in ("standard", "gram"):
        with FlopCounterMode(display=False) as counted:
            made(drawn(rows, ratio * rows), None, "jordan", "clamp", 1.0, method)
        count[method] = counted.get_total_flops() / (2 * rows**3)
    assert count == {"standard": 5 * (2 * ratio + 1), "gram": 2 * (2 * ratio + 5) + 2 * ratio + 1}


@pytest.mark.parametrize("steps", [5, 8])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e12])
@pytest.mark.parametrize("coefficients", ["jordan", "polar_express"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_rounding_stays_what_it_is(dtype, coefficients, condition, steps):
    """Errors do not grow from pair to pair, as they do where A is computed of X only once."""
    x = of_condition(48, 160, condition)
    exact = made(x, None, coefficients, steps=steps)
    one_by_one, two_at_once = (
        made(x.float(), dtype, coefficients, "clamp", 1.0, method, steps=steps)
        for method in ("standard", "gram")
    )
    assert (two_at_once - exact).norm() <= 2.5 * (one_by_one - exact).norm()
    assert torch.linalg.matrix_norm(two_at_once, 2) <= 1.3


def difficult(rows, columns):
    """Forty-eight matrices: random ones, of nearly low rank, and with small singular values."""
    many = drawn(16, rows, columns)
    low = drawn(16, rows, 4) @ drawn(16, 4, columns) + 1e-3 * many
    left, _, right = torch.linalg.svd(many, full_matrices=False)
    ends = [torch.logspace(0, -2 - k % 4, rows, dtype=torch.float64) for k in range(16)]
    return torch.cat([many, low, left @ torch.stack(ends).diag_embed() @ right]).float()


@pytest.mark.parametrize("steps", [5, 8])
@pytest.mark.parametrize("normalization", ["clamp", "add", "aol", "schatten4"])
@pytest.mark.parametrize("coefficients", sorted({*iterations.COEFFICIENTS} - {"cans"}))
def test_rounding_brings_no_singular_value_out_of_the_range(coefficients, normalization, steps):
    """Beyond it they grow from one iteration to the next; of "cans" they do so one by one, too."""
    safety = 1.02 if normalization == "add" else 1.0
    method = "standard" if (coefficients, normalization) in NARROW else "gram"
    for shape in ((32, 128), (64, 512)):
        u = made(
            difficult(*shape),
            torch.bfloat16,
            coefficients,
            normalization,
            safety,
            method,
            steps=steps,
        )
        assert torch.linalg.matrix_norm(u.double(), 2).max() <= 1.4


NARROW = {("polar_express_8", "schatten4"), ("polar_express_8", "aol")}
"""Made for another normalization: with these, singular values begin at the end of their range."""


def test_the_coefficients_of_a_batch_pass_through_pieces():
    x = drawn(520, 900)

    def steps(a):
        return iterations.newton_schulz(x, 4 * [(a, -4.775, 2.03)], 1e-7, None, *GRAM)

    each = torch.tensor([3.4, 3.5], dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(steps)(each), torch.stack(list(map(steps, each))))
