"""Derivatives from values."""

import pytest
import torch
from torch.func import grad, vmap

import funcopt as fo

from ..training import common

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
        (name,) = bad
        with pytest.raises(fo.errors.HyperparameterError, match=f"`zero_order`: `{name}` must be"):
            fo.zero_order(linear, **bad)


# Mapped, and forwards


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def count_of(x):
    """What cannot be mapped: it looks at values."""
    return torch.tensor(float(round(10 * x.sum().item())), dtype=x.dtype)


POINTS = torch.tensor([[0.1, 0.2], [0.3, -0.4], [1.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("method", ["antithetic", "forward", "naive"])
def test_under_vmap_each_run_is_as_alone(method):
    fn = fo.zero_order(count_of, sigma=0.5, num_samples=3, method=method)
    torch.manual_seed(0)
    found = vmap(grad(fn), randomness="different")(POINTS)
    torch.manual_seed(0)
    expected = torch.stack([grad(fn)(x) for x in POINTS])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert torch.equal(vmap(fn)(POINTS), torch.stack([count_of(x) for x in POINTS]))
    summed = grad(lambda x: vmap(fn, randomness="different")(x).sum())(POINTS)
    assert summed.shape == POINTS.shape
    assert summed.any()


def test_the_same_directions_in_all_runs():
    linear = fo.zero_order(lambda x: 3 * x.sum(), sigma=0.1)
    found = vmap(grad(linear), randomness="same")(POINTS)
    assert common.close(found[0], found[1], 1e-9)
    different = vmap(grad(linear), randomness="different")(POINTS)
    assert (different[0] - different[1]).abs().max() > 1e-3


def test_a_generator_of_ones_own_under_vmap():
    def found():
        generator = torch.Generator().manual_seed(5)
        fn = fo.zero_order(count_of, sigma=0.5, num_samples=2, generator=generator)
        return vmap(grad(fn), randomness="different")(POINTS)

    assert torch.equal(found(), found())


def test_vmap_has_to_say_how_numbers_are_drawn():
    with pytest.raises(fo.errors.HyperparameterError, match="`zero_order` draws random directions"):
        vmap(grad(fo.zero_order(count_of)))(POINTS)


def test_arguments_besides_may_differ_between_runs():
    def fn(x, by):
        return (x * by).sum().round(decimals=2)

    z = fo.zero_order(fn, sigma=0.1, num_samples=400)
    torch.manual_seed(0)
    by = torch.tensor([[1.0, 1.0], [5.0, -5.0], [0.0, 2.0]], dtype=torch.float64)
    found = vmap(grad(z), randomness="different")(POINTS, by)
    assert (found - by).abs().max() < 2.0  # of slopes that are 10 apart


def test_forwards_it_is_the_same_estimate():
    fn = fo.zero_order(count_of, sigma=0.5, num_samples=3)
    way = torch.tensor([1.0, -2.0], dtype=torch.float64)
    torch.manual_seed(0)
    backwards = grad(fn)(POINTS[0]) @ way
    torch.manual_seed(0)
    _, forwards = torch.func.jvp(fn, (POINTS[0],), (way,))
    torch.testing.assert_close(forwards, backwards, rtol=1e-12, atol=0)


@pytest.mark.parametrize("evaluate", [None, lambda p: p.square().sum()])
def test_it_trains_in_a_sweep(evaluate):
    def loss(p, target):
        return count_of((p - target).square())

    fn = fo.zero_order(loss, sigma=0.3, num_samples=8)
    target = torch.zeros(3, dtype=torch.float64)
    torch.manual_seed(0)
    result = fo.sweep(
        fn, fo.adam(), {"lr": [0.05, 0.1]}, target + 2, [target] * 60, evaluate=evaluate
    )
    assert (result.params.abs() < 1.0).all()
