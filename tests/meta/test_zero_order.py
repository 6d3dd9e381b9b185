"""Derivatives from values."""

import pytest
import torch
from torch.func import grad

import funcopt as fo

X = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
C = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
METHODS = ["antithetic", "forward", "naive"]


def linear(x):
    return (C * x).sum()


def estimated(fn, x=X, **options):
    return grad(fo.zero_order(fn, generator=torch.Generator().manual_seed(0), **options))(x)


@pytest.mark.parametrize("sigma", [1.0, 0.1])
@pytest.mark.parametrize("method", METHODS)
def test_the_slope_of_a_linear_function(method, sigma):
    """Whatever the width: TorchOpt's forward method is off by its square."""
    samples = 4000
    # The variance of a sample: |c|^2 + c_i^2, and for the naive one (f(x) / sigma)^2 besides.
    variance = C.square().sum() + C.square()
    if method == "naive":
        variance = variance + (linear(X) / sigma) ** 2
    off = estimated(linear, method=method, sigma=sigma, num_samples=samples) - C
    assert (off.abs() < 4 * (variance / samples) ** 0.5).all()


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_formula(method):
    def fn(x):
        return x.pow(3).sum()

    generator = torch.Generator().manual_seed(0)
    expected = torch.zeros_like(X)
    for _ in range(3):
        z = torch.randn(3, dtype=torch.float64, generator=generator)
        up, down, here = fn(X + 0.2 * z), fn(X - 0.2 * z), fn(X)
        weight = {"antithetic": (up - down) / 0.4, "forward": (up - here) / 0.2, "naive": up / 0.2}
        expected += weight[method] * z / 3
    found = estimated(fn, sigma=0.2, num_samples=3, method=method)
    torch.testing.assert_close(found, expected)


def test_functions_that_autograd_cannot_follow():
    def steps(x):
        return torch.tensor(float(round(10 * x[0].item())), dtype=torch.float64)

    slope = estimated(steps, sigma=0.5, num_samples=2000)
    assert abs(slope[0] - 10) < 1.5
    assert grad(lambda x: 0 * x.sum() + steps(x.detach()))(X)[0] == 0


def test_trees_chain_rule_and_autograd():
    params = {"a": X.clone().requires_grad_(), "b": [torch.ones((), dtype=torch.float64)]}

    def fn(params, factor):
        return factor * (linear(params["a"]) + params["b"][0])

    zeroth = fo.zero_order(fn, num_samples=500, generator=torch.Generator().manual_seed(0))
    value = zeroth(params, 2.0)
    torch.testing.assert_close(value, fn(params, 2.0))
    (slope,) = torch.autograd.grad(value.square() / 2, params["a"])
    assert (slope / value - 2 * C).abs().max() < 1.5


def test_a_step_that_only_sees_values():
    """Gradient descent on a function that rounds its argument, to its minimum."""

    def fn(params, batch):
        return (params.mul(20).round() / 20 - C).square().sum()

    tx = fo.adam(0.1)
    torch.manual_seed(0)
    step = fo.train_step(fo.zero_order(fn, sigma=0.1, num_samples=16), tx)
    state, _ = fo.unroll(step, fo.TrainState.start(tx, X), [None] * 100)
    assert (state.params - C).abs().max() < 0.15


def test_bad_input():
    for bad in ({"sigma": 0.0}, {"num_samples": 0}, {"method": "central"}):
        with pytest.raises(fo.errors.HyperparameterError, match="`zero_order`: `sigma` must be"):
            fo.zero_order(linear, **bad)
