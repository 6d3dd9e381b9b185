"""`line_search`: a step size along the update of any transformation."""

import math

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt.errors import ExtraArgumentError, HyperparameterError

from ..closures import (
    DATA,
    closure_of,
    far,
    gap,
    named_parameters,
    network,
    purely,
    regression,
    rosenbrock,
    values,
    wrapped,
)

STEPS = 60
OF_OPTAX = fo.backtracking(decay=0.8, max_steps=15)


def of_jax(params):
    """`regression`, for Optax."""
    data = DATA.numpy()
    hidden = jax.numpy.tanh(data @ params["w"] + params["b"])
    return jax.numpy.square(hidden @ params["v"] - np.cos(data.sum(1))).mean()


def their_steps(direction, loss, params, **options):
    """The parameters and the step size after each update of Optax."""
    with jax.enable_x64(True):
        search = optax.scale_by_backtracking_linesearch(15, **options)
        tx = optax.chain(direction(), search)
        params = jax.tree.map(lambda p: jax.numpy.asarray(p.numpy()), params)
        state, found = tx.init(params), []

        @jax.jit
        def step(params, state):
            value, grad = jax.value_and_grad(loss)(params)
            more = {"value": value, "grad": grad, "value_fn": loss}
            updates, state = tx.update(grad, state, params, **more)
            return optax.apply_updates(params, updates), state

        for _ in range(STEPS):
            params, state = step(params, state)
            found.append((jax.tree.map(np.asarray, params), float(state[-1].learning_rate)))
    return found


@pytest.mark.parametrize(
    ("inner", "direction", "ours", "options"),
    [
        (fo.sgd(4.0), lambda: optax.sgd(4.0), {}, {}),
        (fo.adam(0.5, (0.0, 0.99)), lambda: optax.adam(0.5, 0.0, 0.99), {}, {}),
        (
            fo.sgd(1.0),
            lambda: optax.sgd(1.0),
            {"increase_factor": math.inf, "max_step_size": 5.0},
            {"increase_factor": math.inf, "max_learning_rate": 5.0},
        ),
        (
            fo.sgd(1.0),
            lambda: optax.sgd(1.0),
            {"increase_factor": 3.0, "max_step_size": 50.0},
            {"increase_factor": 3.0, "max_learning_rate": 50.0},
        ),
    ],
    ids=["sgd", "adam", "from the bound", "growing"],
)
def test_backtracking_takes_the_steps_of_optax(inner, direction, ours, options):
    theirs = their_steps(direction, of_jax, network(), **options)
    tx = fo.line_search(inner, OF_OPTAX, **ours)
    params, state, sizes = network(), tx.init(network()), set()
    for expected, size in theirs:
        params, state = purely(tx, params, 1, state=state)
        assert float(state.memory.step_size) == pytest.approx(size, rel=1e-12)
        assert gap(params, {n: torch.tensor(x) for n, x in expected.items()}) <= 1e-11
        sizes.add(round(size, 9))
    assert len(sizes) > 1  # it has been at work


@pytest.mark.parametrize("search", [fo.backtracking(), fo.strong_wolfe()])
def test_the_loss_never_rises(search):
    tx = fo.line_search(fo.sgd(1.0), search)
    x, losses = far(4), []
    state = tx.init(x)
    for _ in range(40):
        losses.append(float(rosenbrock(x)))
        x, state = purely(tx, x, 1, rosenbrock, state)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


def test_with_its_search_it_is_the_first_step_of_newton():
    """The direction of `newton_cg` at a quadratic is `-z`; here it is given by hand."""
    x = torch.tensor([3.0, -2.0], dtype=torch.float64)
    loss = lambda x: (x * x).sum() + x.sum().sin()  # noqa: E731
    for search in (fo.backtracking(), fo.strong_wolfe()):
        known, _ = purely(fo.lbfgs(1.0, max_iter=1, line_search=search), x, 1, loss)
        g = fo.value_and_grad(loss)(x)[1]
        first = float(1 / g.abs().sum())  # L-BFGS's
        tx = fo.line_search(fo.sgd(first), search, max_step_size=1.0)
        mine, _ = purely(tx, x, 1, loss)
        torch.testing.assert_close(mine, known, rtol=1e-12, atol=0.0)


def test_where_there_is_no_descent_there_is_no_step_and_the_size_stays():
    tx = fo.line_search(fo.chain(fo.trace(0.9), fo.scale(-1.0)))
    loss = lambda x: x.square().sum()  # noqa: E731
    x = torch.ones(2, dtype=torch.float64)
    _, state = purely(tx, x, 1, loss)
    before = state.memory
    assert 0 < before.step_size < 1
    _, g = fo.value_and_grad(loss)(-0.1 * x)
    updates, state = tx.update(g, state, -0.1 * x, value_fn=loss)
    assert torch.equal(updates, torch.zeros(2, dtype=torch.float64))
    assert state.memory.step_size == before.step_size
    assert state.memory.func_evals == before.func_evals + 1
    assert not torch.equal(state.slots[0].momentum_buffer, torch.zeros(2))


def test_a_search_without_a_step_is_continued_by_the_next():
    tx = fo.line_search(fo.sgd(1.0), fo.backtracking(max_steps=1), increase_factor=1.0)
    x, state = torch.ones(1, dtype=torch.float64), None
    loss = lambda x: 30.0 * x.square().sum()  # noqa: E731
    sizes = []
    for _ in range(3):
        x, state = purely(tx, x, 1, loss, state)
        sizes.append(float(state.memory.step_size))
    assert sizes == [0.25, 0.0625, 0.03125]
    assert x != 1.0


TX = fo.line_search(fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(4.0, momentum=0.3)), OF_OPTAX)


def test_an_optimizer_takes_the_same_steps_and_resumes():
    pure, _ = purely(TX, network(), 12)
    make = lambda params: fo.Optimizer(params, TX)  # noqa: E731
    mine, opt = wrapped(make, network(), 6)
    again = named_parameters(values(mine))
    fresh = make(list(again.items()))
    fresh.load_state_dict(opt.state_dict())
    for params, one in ((mine, opt), (again, fresh)):
        for _ in range(6):
            one.step(closure_of(one, params))
        assert gap(values(params), pure) <= 1e-12
    assert opt.metrics()["step_size"] > 0
    assert {"step_size", "func_evals"} <= set(opt.state_dict()["state"][0])


def test_groups_share_one_step_size_and_have_learning_rates_of_their_own():
    mine = named_parameters(network())
    rates = dict(zip(mine, (1.0, 2.0, 3.0), strict=True))
    groups = [{"params": [(n, p)], "lr": rates[n]} for n, p in mine.items()]
    opt = fo.Optimizer(groups, fo.line_search(fo.sgd(1.0)))
    opt.step(closure_of(opt, mine))
    _, g = fo.value_and_grad(regression)(network())
    t = float(opt.metrics()["step_size"])
    assert gap(values(mine), {n: p - t * rates[n] * g[n] for n, p in network().items()}) <= 1e-14
    opt.param_groups[0]["max_step_size"] = 0.5
    with pytest.raises(HyperparameterError, match="`max_step_size` must be the same in all"):
        opt.step(closure_of(opt, mine))


def test_a_chain_without_a_learning_rate_gets_it_inside():
    mine = named_parameters(network())
    opt = fo.Optimizer(list(mine.items()), fo.line_search(fo.scale(-1.0)))
    assert opt.param_groups[0]["lr"] == 1.0
    opt.step(closure_of(opt, mine))
    assert gap(values(mine), purely(fo.line_search(fo.sgd(1.0)), network(), 1)[0]) <= 1e-15


def test_only_a_first_try_is_bounded_by_a_schedule():
    tx = fo.line_search(fo.sgd(1.0), increase_factor=2.0, max_step_size=lambda c: 0.25 / (1 + c))
    _, state = purely(tx, torch.ones(1, dtype=torch.float64), 2, lambda x: x.square().sum())
    assert state.memory.step_size == 0.125


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: fo.line_search(fo.scale_by_adam()), r"does not negate them: end it with `scale"),
        (lambda: fo.line_search(fo.lbfgs()), "`lbfgs` needs the final update"),
        (lambda: fo.line_search(fo.sam(fo.sgd())), "must not evaluate the loss itself"),
        (lambda: fo.line_search(fo.sgd(), "wolfe"), r"must be `backtracking\(\)` or"),
        (lambda: fo.line_search(fo.sgd(), increase_factor=0.5), "`increase_factor` must be"),
        (lambda: fo.line_search(fo.sgd(), max_step_size=0.0), "`max_step_size` must be positive"),
        (lambda: fo.chain(fo.clip(1.0), fo.line_search(fo.sgd())), "evaluates the loss itself"),
        (lambda: fo.chain(fo.line_search(fo.sgd()), fo.scale(2.0)), "needs the final update"),
        (lambda: fo.accumulate(fo.line_search(fo.sgd()), 2), "evaluates the loss itself"),
    ],
)
def test_what_makes_no_sense_is_refused(made, message):
    with pytest.raises(HyperparameterError, match=message):
        made()


def test_without_the_loss_it_says_what_to_pass():
    with pytest.raises(ExtraArgumentError, match="`line_search` evaluates the loss more than once"):
        TX.update(network(), TX.init(network()), network())
    opt = fo.Optimizer(list(named_parameters(network()).items()), TX)
    with pytest.raises(ExtraArgumentError, match="`line_search` evaluates the loss more than once"):
        opt.step()
