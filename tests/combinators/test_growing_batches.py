"""`accumulate` with a schedule: batches that grow in training."""

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError

from .common import START, grads_at, purely, resumes, same, the_optimizer_does_the_same

GROWS = fo.piecewise_constant_schedule(1.0, (2, 4), (2.0, 1.5))  # windows of 1, 1, 2, 2, 3, 3, ...
ENDS = [1, 2, 4, 6, 9, 12, 15]


def fixed(params, t):
    """Gradients that do not depend on the parameters, so that a batch can be cut in pieces."""
    return grads_at(START, t)


@pytest.mark.parametrize("mean", [True, False])
def test_each_window_is_one_batch(mean):
    inner = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(fo.linear_schedule(0.1, 0.0, 10)))

    def batches(params, t):
        calls = range(ENDS[t - 1] if t else 0, ENDS[t])
        found = [fixed(params, call) for call in calls]
        divisor = len(found) if mean else 1
        return {n: sum(g[n] for g in found) / divisor for n in params}

    params, state = purely(fo.accumulate(inner, GROWS, mean=mean), ENDS[-1], grads_at=fixed)
    assert same(params, purely(inner, len(ENDS), grads_at=batches)[0], 1e-12)
    assert int(state.memory.inner_updates) == len(ENDS)


@pytest.mark.parametrize(("steps", "given"), [(15, GROWS), (40, lambda updates: 1 + updates // 3)])
def test_the_steps_are_those_of_optax(steps, given):
    ours = fo.accumulate(fo.sgd(0.1, momentum=0.9), given)
    p = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    params = torch.as_tensor(p)
    state = ours.init(params)
    with jax.enable_x64(True):

        def every(count):
            lengths = [int(given(t)) for t in range(steps)]
            return jax.numpy.asarray(lengths, jax.numpy.int32)[count]

        theirs = optax.MultiSteps(
            optax.sgd(0.1, momentum=0.9), every, accumulator_dtype=jax.numpy.float64
        )
        q, own = jax.numpy.asarray(p), theirs.init(jax.numpy.asarray(p))
        for t in range(steps):
            g = np.sin(np.arange(6).reshape(2, 3) + 0.7 * t)
            updates, state = ours.update(torch.as_tensor(g) + params, state, params)
            params = fo.apply_updates(params, updates)
            updates, own = theirs.update(jax.numpy.asarray(g) + q, own, q)
            q = optax.apply_updates(q, updates)
            np.testing.assert_allclose(params.numpy(), np.asarray(q), rtol=0, atol=1e-14)
    assert int(state.memory.inner_updates) == int(own.gradient_step)
    assert int(state.memory.micro_step) == int(own.mini_step)


@pytest.mark.parametrize("engine", ["eager", "fused", "auto"])
def test_in_an_optimizer_and_resumed_within_a_window(engine):
    tx = fo.accumulate(fo.adamw(0.1), GROWS)
    assert the_optimizer_does_the_same(tx, 15)
    assert resumes(tx, 5, 15)
    params, opt = {"p": torch.nn.Parameter(torch.ones(3))}, None
    opt = fo.Optimizer(params.items(), tx, engine=engine)
    moved = []
    for t in range(ENDS[-1]):
        before = params["p"].detach().clone()
        params["p"].grad = torch.ones(3)
        opt.step()
        if not torch.equal(before, params["p"]):
            moved.append(t + 1)
    assert moved == ENDS


def test_fractions_are_rounded_up_and_there_is_at_least_one():
    for value, calls in ((0.0, 1), (2.0, 2), (2.1, 3)):
        _, state = purely(fo.accumulate(fo.sgd(0.1), lambda updates, k=value: k), 6, grads_at=fixed)
        assert int(state.memory.inner_updates) == 6 // calls


def test_runs_of_a_sweep_may_be_in_windows_of_different_lengths():
    """Then no Python number is the count, and both ways are computed."""
    fractions = fo.piecewise_constant_schedule(0.4, (1, 4), (4.5, 1.5))
    tx, p = fo.accumulate(fo.sgd(0.1), fractions), torch.ones(2, 3, dtype=torch.float64)
    states = [purely(tx, steps, {"p": p[0]}, lambda q, t: q)[1] for steps in (2, 3)]
    together = fo.tree.map(lambda *x: torch.stack(x), *states)
    for _ in range(8):
        made, together = torch.func.vmap(tx.update)({"p": p}, together, {"p": p})
        for i in range(2):
            update, states[i] = tx.update({"p": p[i]}, states[i], {"p": p[i]})
            assert torch.equal(made["p"][i], update["p"])


def test_what_is_no_schedule_is_an_error():
    with pytest.raises(HyperparameterError, match="`steps` must be a whole number, at least 1"):
        fo.accumulate(fo.sgd(0.1), fo.linear_schedule)
    with pytest.raises(HyperparameterError, match=r"`steps` is called as `steps\(updates\)`"):
        fo.accumulate(fo.sgd(0.1), lambda: 3)
