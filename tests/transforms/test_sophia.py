"""Sophia, given the estimates of the diagonal: the steps of Optax, and of `pytorch_optimizer`."""

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt import optim

from ..combinators.common import START, grads_at, named_parameters, same, step, values
from ..frameworks import needed

STEPS = 200
EVERY = 10
TOLERANCE = 1e-12


def estimate(params, t):
    """As of a Hessian, of both signs; some entries are clipped, and some are not."""
    return {n: 60.0 * (torch.sin(3.0 * p + t) + 0.4) for n, p in params.items()}


def their_parameters(theirs):
    """What Optax makes of `START`, in float64."""
    update, params = jax.jit(theirs.update), {n: p.numpy() for n, p in START.items()}
    state = theirs.init(params)
    for t in range(STEPS):
        now = {n: torch.tensor(np.asarray(p)) for n, p in params.items()}
        grads, h = ({n: x.numpy() for n, x in f(now, t).items()} for f in (grads_at, estimate))
        updates, state = update(grads, state, params, h=h)
        params = optax.apply_updates(params, updates)
    return {n: torch.tensor(np.asarray(p)) for n, p in params.items()}


def test_the_steps_are_those_of_optax_whose_estimates_take_effect_one_step_later():
    fn = optax.GradientTransformationExtraArgs(
        lambda _: optax.EmptyState(), lambda g, state, params, *, h: (h, state)
    )
    tx = fo.sophia(0.01, weight_decay=0.1)
    params, state, last, clipped = START, tx.init(START), {}, 0
    for t in range(STEPS):
        h = estimate(params, t)
        updates, state = tx.update(grads_at(params, t), state, params, **last)
        without_decay = {n: u + 0.001 * params[n] for n, u in updates.items()}
        clipped += sum(int((u.abs() > 0.0099999).sum()) for u in without_decay.values())
        params, last = fo.apply_updates(params, updates), {"hessian": h}
    assert STEPS < clipped < 8 * STEPS  # of 9
    with jax.enable_x64(True):
        theirs = optax.contrib.sophia(
            0.01, weight_decay=0.1, update_interval=1, hessian_diagonal_fn=fn
        )
        assert same(params, their_parameters(theirs), TOLERANCE)


def test_the_steps_are_those_of_pytorch_optimizer_with_an_estimate_every_tenth_step():
    cls = needed("pytorch_optimizer").SophiaH
    ours, theirs = named_parameters(), named_parameters()
    opt = optim.Sophia(
        list(ours.items()),
        0.01,
        (0.96, 0.99),
        eps=1e-12,
        weight_decay=0.0,
        gamma=1.0,
        clip_threshold=0.01,
        debias=False,
    )
    other = cls(theirs.values(), 0.01, (0.96, 0.99), p=0.01, update_period=EVERY)
    for t in range(STEPS):
        h = estimate(values(theirs), t) if t % EVERY == 0 else None
        for params in (ours, theirs):
            for name, g in grads_at(values(params), t).items():
                params[name].grad = g
        opt.step(**({} if h is None else {"hessian": h}))
        other.step(hessian=None if h is None else list(h.values()))
    assert same(values(ours), values(theirs), TOLERANCE)


def test_without_an_estimate_an_average_keeps_its_value():
    tx = fo.scale_by_sophia()
    params = {"a": torch.ones(2), "b": torch.ones(3)}
    state = tx.init(params)
    _, state = tx.update(params, state, params, hessian=params)
    assert torch.equal(state.slots["a"].hessian_diag, torch.full((2,), 1 - 0.99))
    for more in ({}, {"hessian": {"a": None, "b": torch.ones(3)}}):
        _, new = tx.update(params, state, params, **more)
        assert torch.equal(new.slots["a"].hessian_diag, state.slots["a"].hessian_diag)
    assert not torch.equal(new.slots["b"].hessian_diag, state.slots["b"].hessian_diag)


def test_where_the_curvature_is_not_positive_the_step_is_a_sign():
    tx = fo.scale_by_sophia(clip_threshold=0.5)
    g = torch.tensor([3.0, -2.0, 1e-3])
    u, _ = tx.update(g, tx.init(g), g, hessian=torch.tensor([-1.0, 0.0, 1e9]))
    assert torch.equal(u[:2], torch.tensor([0.5, -0.5]))
    assert 0 < u[2] < 1e-6


@pytest.mark.parametrize("engine", ["auto", "fused", "foreach", "eager"])
def test_every_engine_takes_estimates_in_some_steps(engine):
    """By kernels without, and operation by operation with one."""
    ours, theirs = named_parameters(), named_parameters()
    runs = (
        (ours, optim.Sophia(list(ours.items()), engine=engine), set()),
        (theirs, optim.Sophia(list(theirs.items()), engine="eager"), set()),
    )
    for params, opt, engines in runs:
        for t in range(25):
            for name, g in grads_at(values(params), t).items():
                params[name].grad = g
            opt.step(**({"hessian": estimate(values(params), t)} if t % 5 == 2 else {}))
            engines.add(opt.engine)
    assert same(values(ours), values(theirs), 1e-14)
    if engine != "auto":
        assert runs[0][2] == {engine, "eager"}


def test_a_step_in_the_pure_form_and_in_place_is_the_same():
    tx = fo.chain(fo.masked(fo.scale_by_sophia(), r"w"), fo.scale(-0.1))
    h = {"b": None, "gain": None, "w": torch.full((2, 3), 2e4, dtype=torch.float64)}
    updates, _ = tx.update(START, tx.init(START), START, hessian=h)
    expected = fo.apply_updates(START, updates)
    params, grads = ({n: p.clone() for n, p in START.items()} for _ in range(2))
    params, _ = fo.donated(tx)(params, grads, tx.init(params), hessian=h)
    assert same(params, expected)
    mine = named_parameters()
    opt = fo.Optimizer(list(mine.items()), tx)
    for name, p in mine.items():
        p.grad = START[name].clone()
    opt.step(hessian={"w": h["w"]})
    assert same(values(mine), expected)


def test_a_schedule_and_a_checkpoint():
    mine, again = named_parameters(), named_parameters()
    opts = [optim.Sophia(list(x.items()), fo.linear_schedule(0.1, 0.0, 9)) for x in (mine, again)]
    step(opts[0], mine, START)
    opts[0].step(hessian=estimate(START, 0))
    opts[1].load_state_dict(opts[0].state_dict())
    for p, q in zip(mine.values(), again.values(), strict=True):
        q.data.copy_(p)
    for opt, params in zip(opts, (mine, again), strict=True):
        step(opt, params, START)
    assert same(values(mine), values(again))
