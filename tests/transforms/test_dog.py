"""DoG, LDoG and DoWG: distances over gradients."""

import math

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .stepping import numbers


def first(tx, grads, params):
    """The update of the first step."""
    return tx.update(grads, tx.init(params), params)[0]


METHODS = ["dog", "ldog", "dowg"]


def test_the_first_step_has_the_length_of_the_initial_distance():
    p = numbers(3.0, 4.0)
    u = first(fo.scale_by_dog(1e-3, eps=1e-30), numbers(0.6, -0.8), p)
    torch.testing.assert_close(u, 1e-3 * (1 + 5.0) * numbers(0.6, -0.8))
    u = first(fo.scale_by_dowg(0.1, eps=1e-30), numbers(6.0, -8.0), p)
    torch.testing.assert_close(u, 0.1 * numbers(0.6, -0.8))


def test_norms_are_those_of_all_tensors_and_of_one_in_ldog():
    params = {"a": numbers(3.0), "b": numbers(4.0)}
    grads = {"a": numbers(1.0), "b": numbers(2.0)}
    u = first(fo.scale_by_dog(1e-3, eps=1e-30), grads, params)
    torch.testing.assert_close(u["a"], numbers(6e-3 / math.sqrt(5)))
    u = first(fo.scale_by_ldog(1e-3, eps=1e-30), grads, params)
    torch.testing.assert_close(u, {"a": numbers(4e-3), "b": numbers(5e-3)})


@pytest.mark.parametrize("name", METHODS)
def test_a_parameter_that_comes_back_keeps_its_largest_distance(name):
    tx, p = getattr(fo, name)(), numbers(1.0)
    state = tx.init(p)
    _, state = tx.update(numbers(1e-9), state, p + 3.0)
    u, _ = tx.update(numbers(1.0), state, p)
    assert u.item() == pytest.approx(-3.0, rel=1e-3)


def test_later_gradients_weigh_more_in_dowg():
    """By the square of the distance at their time."""
    tx, p = fo.scale_by_dowg(0.1, eps=1e-30), numbers(0.0)
    state = tx.init(p)
    _, state = tx.update(numbers(1.0), state, p)
    u, _ = tx.update(numbers(1.0), state, p + 2.0)
    torch.testing.assert_close(u, numbers(4.0 / math.sqrt(0.01 + 4.0)))


@pytest.mark.parametrize("name", METHODS)
def test_it_finds_a_learning_rate_for_a_bowl_of_any_size(name):
    for size in (1e-2, 1e2):
        x = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
        bottom = size * torch.linspace(0.5, 1.0, 5, dtype=torch.float64)
        opt = fo.Optimizer([x], getattr(fo, name)())
        for _ in range(500):
            opt.zero_grad()
            (x - bottom).square().sum().backward()
            opt.step()
        assert (x - bottom).abs().max() < 0.1 * size


@pytest.mark.parametrize("name", ["DoG", "DoWG"])
def test_one_rate_for_all_groups_which_the_metrics_show(name):
    ps = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]
    opt = getattr(optim, name)([{"params": [p]} for p in ps])
    whole = getattr(optim, name)(qs := [torch.nn.Parameter(p.detach().clone()) for p in ps])
    for t in range(10):
        for i, (p, q) in enumerate(zip(ps, qs, strict=True)):
            p.grad = q.grad = p.detach() - t * i
        opt.step()
        whole.step()
    assert all(torch.equal(p, q) for p, q in zip(ps, qs, strict=True))
    assert opt.metrics()["eta"] == whole.metrics()["eta"] > 0


def test_hyperparameters_of_the_rate_are_one_for_all_groups():
    ps = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    opt = optim.DoG([{"params": [ps[0]]}, {"params": [ps[1]], "reps_rel": 1e-4}])
    for p in ps:
        p.grad = torch.ones(2)
    with pytest.raises(fo.errors.HyperparameterError, match="`reps_rel` must be the same in all"):
        opt.step()


@pytest.mark.parametrize("name", METHODS)
def test_zero_gradients_change_nothing(name):
    tx, p = getattr(fo, name)(), numbers(1.0, 2.0)
    state = tx.init(p)
    for _ in range(3):
        u, state = tx.update(numbers(0.0, 0.0), state, p)
        assert not u.any()
    assert all(x.isfinite().all() for x in fo.tree.leaves(state))
