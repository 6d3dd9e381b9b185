"""`reduce_on_plateau`: the scale of the updates falls where the loss does not."""

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

P = torch.ones(2, dtype=torch.float64)


def scales(tx, values):
    """The scale after each value."""
    state, found = tx.init(P), []
    for value in values:
        updates, state = tx.update(P, state, P, value=value)
        found.append(updates[0].item())
    return found


def noisy(seed):
    noise = np.random.default_rng(seed).normal(size=300)
    return [float(x) for x in 1.0 + np.exp(-np.arange(300) / 30) + 0.05 * noise]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 3, "cooldown": 4},
        {"patience": 1, "factor": 0.5, "accumulation_size": 5, "rtol": 0.01},
        {"patience": 4, "factor": 0.7, "atol": 0.02, "min_scale": 0.2, "cooldown": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_scales_are_those_of_optax(options, seed):
    found = scales(fo.reduce_on_plateau(**options), noisy(seed))
    with jax.enable_x64(True):
        theirs = optax.contrib.reduce_on_plateau(**options)
        p = jax.numpy.ones(2)
        state, expected = theirs.init(p), []
        update = jax.jit(lambda state, value: theirs.update(p, state, value=value))
        for value in noisy(seed):
            updates, state = update(state, value)
            expected.append(float(updates[0]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[-1] < 1.0  # it has been at work


def test_the_patience_of_torch_is_one_less():
    p = torch.nn.Parameter(torch.ones(1))
    opt = torch.optim.SGD([p], 1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, "min", 0.5, 4, cooldown=2, eps=0.0)
    expected = []
    for value in noisy(0):
        theirs.step(value)
        expected.append(opt.param_groups[0]["lr"])
    ours = fo.reduce_on_plateau(0.5, patience=5, cooldown=2)
    assert scales(ours, noisy(0)) == pytest.approx(expected)
    assert expected[-1] < 1.0


def test_a_loss_below_zero_improves_too():
    """In Optax, the bound is above the best value then, and anything is an improvement."""
    falling = [-1.0 - 0.1 * t for t in range(30)]
    assert set(scales(fo.reduce_on_plateau(patience=3), falling)) == {1.0}
    rising = [-1.0 + 1e-5 * t for t in range(10)]
    assert scales(fo.reduce_on_plateau(patience=3, factor=0.5), rising)[-1] == 0.125


def test_an_update_without_a_value_changes_nothing():
    tx = fo.reduce_on_plateau(patience=1, factor=0.5)
    state = tx.init(P)
    for value, scale in ((1.0, 1.0), (None, 1.0), (2.0, 0.5), (None, 0.5), (float("nan"), 0.25)):
        extra = {} if value is None else {"value": torch.tensor(value)}
        updates, state = tx.update(P, state, P, **extra)
        assert updates[0] == scale
        assert state.memory.best_value == 1.0


def test_in_an_optimizer_it_is_shared_by_all_groups_saved_and_shown():
    ps = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    tx = fo.chain(fo.sgd(1.0), fo.reduce_on_plateau(0.5, patience=1))

    def made(params):
        return fo.Optimizer([{"params": params[:1]}, {"params": params[1:], "lr": 0.1}], tx)

    opt = made(ps)
    for t, value in enumerate((1.0, 1.0, 1.0)):
        before = [p.detach().clone() for p in ps]
        for p in ps:
            p.grad = torch.ones(2)
        opt.step(value=value)
        for p, old, lr in zip(ps, before, (1.0, 0.1), strict=True):
            torch.testing.assert_close(old - p.detach(), torch.full((2,), lr * 0.5**t))
    assert opt.metrics()["plateau_scale"].item() == 0.25
    again = made(ps)
    again.load_state_dict(opt.state_dict())
    assert again.state[ps[1]]["scale"].item() == 0.25
    opt.param_groups[0]["factor"] = 0.1
    with pytest.raises(HyperparameterError, match="`factor` must be the same in all parameter gr"):
        opt.step(value=1.0)


def test_bad_arguments():
    with pytest.raises(HyperparameterError, match=r"`factor` must lie in \(0, 1\)"):
        fo.reduce_on_plateau(1.0)
    with pytest.raises(HyperparameterError, match="`patience` must be a whole number, at least 1"):
        fo.reduce_on_plateau(patience=0)
