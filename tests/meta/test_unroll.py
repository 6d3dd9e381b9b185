"""Many steps as one function: its derivatives, where they stop, and what they cost."""

import subprocess
import sys

import pytest
import torch
from torch.func import grad, grad_and_value, jacrev, vmap

import funcopt as fo
from funcopt.sweeps._memory import peak_bytes

from ..training import common

DATA, PARAMS = common.batches(64), common.params()
HELD_OUT = common.batches(1, seed=5)[0]


def final(rate, params=None, steps=6, tx=fo.adam, **options):
    """The loss after some steps, as a function of the rate that is an argument of the step."""

    def step(state, batch, rate):
        return fo.train_step(common.loss, tx(rate))(state, batch)

    params = PARAMS if params is None else params
    start = fo.TrainState.start(tx(0.1), params)
    state, losses = fo.unroll(step, start, DATA[:steps], args=(rate,), **options)
    return common.loss(state.params, HELD_OUT) + 0.1 * losses.sum()


def by_hand(rate, params, steps, truncate):
    """The same, with plain autograd and the formula of momentum."""
    momentum = fo.tree.zeros_like(params)
    total = torch.zeros((), dtype=torch.float64)
    for i, batch in enumerate(DATA[:steps]):
        if i % truncate == 0:
            params, momentum = fo.detach_state((params, momentum))
        grads, value = grad_and_value(common.loss)(params, batch)
        momentum = fo.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        params = fo.tree.map(lambda p, m: p - rate * m, params, momentum)
        total = total + value
    return common.loss(params, HELD_OUT) + 0.1 * total


RATE = torch.tensor(0.1, dtype=torch.float64)


def test_it_is_a_loop():
    tx = fo.adam(0.1)
    start = fo.TrainState.start(tx, common.params())
    state, losses = fo.unroll(fo.train_step(common.loss, tx), start, common.batches(4))
    expected, values = common.trained(tx, start, common.batches(4))
    assert common.close(state, expected, 0.0)
    assert torch.equal(losses, values)


@pytest.mark.parametrize("steps", [5, 6])
@pytest.mark.parametrize("truncate", [1, 2, 3, 6, 100])
def test_truncated_derivatives_are_those_written_by_hand(truncate, steps):
    def momentum(rate):
        return fo.sgd(rate, momentum=0.9)

    def ours(rate):
        return final(rate, steps=steps, tx=momentum, truncate=truncate)

    value, slope = grad_and_value(ours)(RATE)[::-1]
    rate = RATE.clone().requires_grad_()
    expected = by_hand(rate, common.params(), steps, truncate)
    (expected_slope,) = torch.autograd.grad(expected, rate)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-12, atol=0)
    if truncate < steps:
        assert (slope - grad(lambda r: final(r, steps=steps, tx=momentum))(RATE)).abs() > 1e-3


@pytest.mark.parametrize("truncate", [None, 4])
@pytest.mark.parametrize("checkpoint", [1, 2, 3, 6, 100])
def test_what_is_computed_again_has_the_same_derivatives(checkpoint, truncate):
    params = common.params()

    def run(rate, params, checkpoint=None):
        return final(rate, params, truncate=truncate, checkpoint=checkpoint)

    expected = grad_and_value(run, argnums=(0, 1))(RATE, params)
    found = grad_and_value(run, argnums=(0, 1))(RATE, params, checkpoint)
    assert common.close(found, expected, 1e-12)
    # By autograd too
    rate, live = (
        RATE.clone().requires_grad_(),
        fo.tree.map(lambda p: p.clone().requires_grad_(), params),
    )
    leaves = [rate, *fo.tree.leaves(live)]
    slopes = torch.autograd.grad(run(rate, live, checkpoint), leaves, allow_unused=True)
    for slope, other in zip(slopes, fo.tree.leaves(expected[0]), strict=True):
        assert (slope is None and not other.any()) or common.close(slope, other, 1e-12)


def test_what_is_computed_again_under_vmap_and_twice():
    rates = torch.tensor([0.1, 0.2], dtype=torch.float64)
    plain, again = (lambda r: final(r, steps=3)), (lambda r: final(r, steps=3, checkpoint=2))
    assert common.close(vmap(grad(again))(rates), vmap(grad(plain))(rates), 1e-12)
    assert common.close(jacrev(grad(again))(RATE), jacrev(grad(plain))(RATE), 1e-10)


def test_derivatives_by_data():
    """The batches are arguments too, with or without checkpoints."""
    x, y = common.batches(1)[0]

    def after(x, checkpoint):
        tx = fo.sgd(0.1)
        step, start = fo.train_step(common.loss, tx), fo.TrainState.start(tx, common.params())
        state, _ = fo.unroll(step, start, [(x, y)] * 4, checkpoint=checkpoint)
        return common.loss(state.params, (x.detach(), y))

    assert grad(after)(x, None).any()
    assert common.close(grad(after)(x, 2), grad(after)(x, None), 1e-12)


def test_checkpoints_need_less_memory():
    """36 steps by 6: the states of 6 checkpoints and the history of 6 steps, instead of 36."""

    def cost(**options):
        rate = RATE.clone().requires_grad_()
        return peak_bytes(lambda: torch.autograd.grad(final(rate, steps=36, **options), rate))

    assert cost(checkpoint=6) < cost() / 2.5


def test_a_closure_would_lose_its_derivative():
    def captures(rate):
        tx = fo.sgd(rate)
        step, start = fo.train_step(common.loss, tx), fo.TrainState.start(tx, common.params())
        state, _ = fo.unroll(step, start, common.batches(4), checkpoint=2)
        return common.loss(state.params, common.batches(1)[0])

    message = "`unroll`: the function closes over a tensor that derivatives are taken by"
    with pytest.raises(fo.errors.StructureError, match=message):
        grad(captures)(RATE)
    with pytest.raises(fo.errors.StructureError, match=message):
        captures(RATE.clone().requires_grad_())
    captures(RATE)  # nothing is lost


FLAT = """
import pathlib, torch, funcopt as fo

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

tx, batch = fo.adam(1e-3), torch.randn(256, 4)
step = fo.train_step(lambda p, batch: (p["w"] @ batch).square().mean(), tx)
state = fo.TrainState.start(tx, {"w": torch.randn(256, 256)})
state, _ = fo.unroll(step, state, [batch] * 200)
before = resident()
for _ in range(1000):
    state, _ = step(state, batch)
print(resident() - before)
"""


def test_memory_is_flat_where_nothing_requires_grad():
    """1,000 steps of Adam in a process of its own, to 1 MB: one step more would be 0.8 MB."""
    found = subprocess.run([sys.executable, "-c", FLAT], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1e6
    tx = fo.adam(0.1)
    step, start = fo.train_step(common.loss, tx), fo.TrainState.start(tx, PARAMS)
    short, long = (peak_bytes(lambda n=n: fo.unroll(step, start, DATA[:n])) for n in (8, 64))
    assert long - short < 56 * 64  # the losses


def test_a_carry_of_any_kind():
    state, outs = fo.unroll(lambda x, i: (x * 2, {"x": x + i}), torch.tensor(1.0), range(3))
    assert state == 8
    assert outs["x"].tolist() == [1.0, 3.0, 6.0]


def test_bad_lengths():
    with pytest.raises(fo.errors.HyperparameterError, match="`truncate` must be a positive whole"):
        final(RATE, truncate=0)
    with pytest.raises(fo.errors.HyperparameterError, match="`checkpoint` must be a positive who"):
        final(RATE, checkpoint=1.5)
    with pytest.raises(fo.errors.HyperparameterError, match="there are no batches"):
        final(RATE, steps=0)
