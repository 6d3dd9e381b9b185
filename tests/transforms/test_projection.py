"""`project_onto_*`: a step ends at the nearest point of the set."""

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from .stepping import numbers

SETS = {
    "box": (
        fo.project_onto_box(-0.3, 0.8),
        lambda x: optax.projections.projection_box(x, -0.3, 0.8),
    ),
    "non-negative": (
        fo.project_onto_box(lower=0.0),
        optax.projections.projection_non_negative,
    ),
    "l2 ball": (
        fo.project_onto_l2_ball(1.5),
        lambda x: optax.projections.projection_l2_ball(x, 1.5),
    ),
    "simplex": (
        fo.project_onto_simplex(2.0),
        lambda x: optax.projections.projection_simplex(x, 2.0),
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3)])
def test_steps_end_where_optax_projects_them(name, shape):
    tx, theirs = SETS[name]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        for scale in (0.1, 1.0, 10.0):
            p, u = rng.normal(size=shape), scale * rng.normal(size=shape)
            params = torch.as_tensor(p)
            updates, _ = tx.update(torch.as_tensor(u), tx.init(params), params)
            expected = np.asarray(theirs(p + u))
            np.testing.assert_allclose((params + updates).numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", SETS)
def test_a_point_of_the_set_is_left_alone(name):
    tx, _ = SETS[name]
    params = numbers(0.7, 0.6, 0.7)
    updates, _ = tx.update(torch.zeros_like(params), tx.init(params), params)
    torch.testing.assert_close(updates, torch.zeros_like(params), rtol=0, atol=2e-16)


def test_each_tensor_has_its_own_set():
    tx, params = fo.project_onto_l2_ball(1.0), [numbers(3.0, 4.0), numbers(0.3, 0.4)]
    updates, _ = tx.update([torch.zeros_like(p) for p in params], tx.init(params), params)
    torch.testing.assert_close(params[0] + updates[0], numbers(0.6, 0.8))
    assert updates[1].tolist() == [0.0, 0.0]


def test_zero_is_reached_exactly():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.rand(1000))
    tx = fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(0.3), fo.project_onto_box(0.0))
    opt = fo.Optimizer([p], tx)
    p.grad = torch.ones(1000)
    for _ in range(4):
        opt.step()
    assert p.detach().unique().tolist() == [0.0]


def test_training_on_the_simplex_finds_the_best_mixture():
    weights, costs = torch.nn.Parameter(torch.full((4,), 0.25)), torch.tensor([3.0, 1.0, 2.0, 5.0])
    opt = fo.Optimizer([weights], fo.chain(fo.sgd(0.05), fo.project_onto_simplex()))
    for _ in range(50):
        weights.grad = costs.clone()
        opt.step()
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    assert weights.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_it_has_to_come_last():
    with pytest.raises(HyperparameterError, match="`project_onto_box` needs the final update"):
        fo.chain(fo.project_onto_box(0.0), fo.scale_by_learning_rate(0.1))


def test_bounds_are_in_order():
    with pytest.raises(HyperparameterError, match=r"`\(lower, upper\)` must be a pair"):
        fo.project_onto_box(1.0, 0.0)
