"""Factorisations whose derivatives are finite everywhere, and right where they are defined."""

import pytest
import torch

from funcopt._numerics import linalg

FUNCTIONS = {
    "eigenvectors": linalg.eigenvectors,
    "orthonormal": linalg.orthonormal,
    "inverse_root": lambda a: linalg.inverse_root(a, 4, 0.1),
}
every_function = pytest.mark.parametrize("fn", FUNCTIONS.values(), ids=FUNCTIONS)


def matrix(n=4, batch=()):
    torch.manual_seed(0)
    x = torch.randn(*batch, n, n, dtype=torch.float64)
    return x @ x.mT + torch.arange(float(n), dtype=torch.float64).diag()


def symmetric(fn):
    return lambda a: fn((a + a.mT) / 2)


def test_they_are_what_they_say():
    a = matrix()
    v = linalg.eigenvectors(a)
    values = (v.T @ a @ v).diag()
    torch.testing.assert_close(v @ values.diag() @ v.T, a)
    assert (values.diff() < 0).all()
    q = linalg.orthonormal(a)
    torch.testing.assert_close(q.T @ q, torch.eye(4, dtype=torch.float64))
    assert (q.T @ a).tril(-1).abs().max() < 1e-12
    root = linalg.inverse_root(a, 4, 0.1)
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.matrix_power(root, 4) @ (a + 0.1 * eye), eye)


@every_function
def test_derivatives_are_those_of_differences(fn):
    assert torch.autograd.gradcheck(symmetric(fn), matrix().requires_grad_())


def test_the_root_of_equal_eigenvalues_has_its_derivative():
    a = torch.diag(torch.tensor([2.0, 2.0, 2.0 + 1e-9, 0.5], dtype=torch.float64))
    assert torch.autograd.gradcheck(symmetric(FUNCTIONS["inverse_root"]), a.requires_grad_())
    eps = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: linalg.inverse_root(a.detach(), 6, e), eps)


@every_function
@pytest.mark.parametrize("a", [torch.zeros(3, 3), torch.eye(3), torch.ones(3, 3)], ids="0I1")
def test_derivatives_are_finite_where_there_are_none(fn, a):
    a = a.double().requires_grad_()
    symmetric(fn)(a).sum().backward()
    assert a.grad.isfinite().all()


def test_a_direction_that_is_not_determined_has_no_slope():
    a = torch.diag(torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64))
    slopes = torch.func.jacrev(linalg.orthonormal)(a)
    assert slopes[1, 0, 1, 0].abs() == 0.5
    assert not slopes[2, 1, 2, 1]


@every_function
def test_batches_are_as_single_ones_under_vmap_too(fn):
    a = matrix(batch=(3,))
    alone = torch.stack([fn(x) for x in a])
    torch.testing.assert_close(fn(a), alone)
    torch.testing.assert_close(torch.func.vmap(fn)(a), alone)
    slopes = torch.func.vmap(torch.func.grad(lambda x: fn(x).sin().sum()))(a)
    each = [torch.func.grad(lambda x: fn(x).sin().sum())(x) for x in a]
    torch.testing.assert_close(slopes, torch.stack(each))


@every_function
def test_the_value_does_not_depend_on_who_looks(fn):
    a = matrix()
    with torch.no_grad():
        expected = fn(a)
    assert torch.equal(fn(a), expected)
    assert torch.equal(fn(a.requires_grad_()).detach(), expected)


@every_function
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_nan_and_no_error(fn, value):
    """Else a bad gradient would stop what skips bad gradients."""
    a = matrix(batch=(2,))
    alone = fn(a[1])
    a[0, 1, 1] = value
    found = fn(a)
    assert not found[0].isfinite().all()
    torch.testing.assert_close(found[1], alone)


def test_eigenvectors_are_found_in_float64(monkeypatch):
    """The solver of float32 returns NaN for some finite matrices of low rank."""
    a = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    a = a @ a.mT
    exact, solve = linalg.eigenvectors(a.double()), torch.linalg.eigh

    def weak(x):
        return [y if x.dtype == torch.float64 else y * torch.nan for y in solve(x)]

    monkeypatch.setattr(torch.linalg, "eigh", weak)
    found = linalg.eigenvectors(a)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.abs().double(), exact.abs(), rtol=0, atol=1e-5)
