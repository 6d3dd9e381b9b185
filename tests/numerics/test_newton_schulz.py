"""Newton-Schulz iterations: of symmetric products one side of the diagonal is computed."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from funcopt._numerics import newton_schulz as iterations

SHAPES = [(512, 512), (700, 600), (513, 1100), (2, 520, 530), (3, 1, 530, 520)]


def made(x, dtype=None, coefficients="jordan", **options):
    triples = iterations.triples(coefficients, 5)
    return iterations.newton_schulz(x, triples, 1e-7, dtype, **options)


def at_once(monkeypatch):
    monkeypatch.setattr(iterations, "ROWS", sys.maxsize)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normalization", ["clamp", "aol"])
def test_pieces_are_those_of_the_whole_product(shape, normalization, monkeypatch):
    x = torch.randn(shape, dtype=torch.float64)
    in_pieces = made(x, normalization=normalization)
    at_once(monkeypatch)
    torch.testing.assert_close(
        in_pieces, made(x, normalization=normalization), rtol=1e-9, atol=1e-9
    )


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
