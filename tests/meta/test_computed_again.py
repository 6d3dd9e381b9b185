"""What is computed again for a derivative meets what it met the first time."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn.functional import dropout

import funcopt as fo

from ..training import common

# Forward mode of torch loads what it says is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

RATE = torch.tensor(0.1, dtype=torch.float64)
BATCHES = common.batches(4)
OWN = torch.Generator()


def by_default(x):
    return dropout(x, 0.5)


def by_a_generator(x):
    return x * (torch.rand(x.shape, generator=OWN, dtype=x.dtype) < 0.5)


def final(noise, checkpoint, rate, seed=3):
    """The loss after a training with noise, and what the generators draw next."""

    def loss(params, batch):
        return common.loss(params, (noise(batch[0]), batch[1]))

    def step(state, batch, rate):
        return fo.train_step(loss, fo.sgd(rate))(state, batch)

    torch.manual_seed(seed)
    OWN.manual_seed(seed)
    start = fo.TrainState.start(fo.sgd(rate), common.params())
    state, losses = fo.unroll(step, start, BATCHES, args=(rate,), checkpoint=checkpoint)
    return common.loss(state.params, BATCHES[0]) + losses.sum()


@pytest.mark.parametrize("noise", [by_default, by_a_generator])
@pytest.mark.parametrize("how", ["autograd", "grad", "jvp", "vmap"])
def test_random_numbers_are_the_same(how, noise):
    if how == "vmap" and noise is by_a_generator:
        pytest.skip("torch cannot draw from a generator of one's own under vmap")

    def slope(checkpoint):
        f = lambda rate: final(noise, checkpoint, rate)  # noqa: E731
        if how == "autograd":
            rate = RATE.clone().requires_grad_()
            found = torch.autograd.grad(f(rate), rate)[0]
        elif how == "grad":
            found = grad(f)(RATE)
        elif how == "jvp":
            found = torch.func.jvp(f, (RATE,), (torch.ones_like(RATE),))[1]
        else:
            found = vmap(grad(f), randomness="different")(torch.stack([RATE, 2 * RATE]))
        return found, torch.rand(1), torch.rand(1, generator=OWN)

    plain, again = slope(None), slope(2)
    assert common.close(again, plain, 1e-12)  # and the generators stand where they stood


@pytest.mark.parametrize("checkpoint", [1, 2, 3])
def test_hypergrad_with_dropout(checkpoint):
    def loss(params, batch):
        return common.loss(params, (dropout(batch[0], 0.5), batch[1]))

    def found(checkpoint):
        torch.manual_seed(0)
        return fo.hypergrad(
            loss, fo.sgd(), {"lr": 0.1}, common.params(), BATCHES,
            lambda p: common.loss(p, BATCHES[0]), checkpoint=checkpoint,
        )  # fmt: skip

    assert common.close(found(checkpoint), found(None), 1e-12)


def test_autocast_is_that_of_the_first_time():
    """The derivative is taken outside of the region; what is computed again is inside of it."""
    x, y = (t.float() for t in common.batches(1)[0])
    params = fo.tree.map(lambda p: p.float(), common.params())

    def slope(checkpoint):
        rate = torch.tensor(0.1, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):

            def step(state, batch, rate):
                return fo.train_step(common.loss, fo.sgd(rate))(state, batch)

            start = fo.TrainState.start(fo.sgd(rate), params)
            state, _ = fo.unroll(step, start, [(x, y)] * 3, args=(rate,), checkpoint=checkpoint)
            value = common.loss(state.params, (x, y))
        assert not torch.is_autocast_enabled("cpu")
        return torch.autograd.grad(value, rate)[0]

    assert common.close(slope(2), slope(None), 1e-6)


@pytest.mark.parametrize("where", ["global", "closure"])
def test_the_mode_of_a_module_is_that_of_the_first_time(where):
    """Whoever takes the derivative may have switched to evaluation by then."""
    net = NET if where == "global" else nn.Dropout(0.3)

    def by_closure(params, batch):
        return common.loss(params, (net(batch[0]), batch[1]))

    loss = by_global if where == "global" else by_closure

    def slope(checkpoint):
        def step(state, batch, rate):
            return fo.train_step(loss, fo.sgd(rate))(state, batch)

        torch.manual_seed(1)
        net.train()
        rate = RATE.clone().requires_grad_()
        start = fo.TrainState.start(fo.sgd(rate), common.params())
        state, _ = fo.unroll(step, start, BATCHES, args=(rate,), checkpoint=checkpoint)
        net.eval()
        found = torch.autograd.grad(common.loss(state.params, BATCHES[0]), rate)
        assert not net.training
        return found

    assert common.close(slope(2), slope(None), 1e-12)


NET = nn.Dropout(0.3)


def by_global(params, batch):
    return common.loss(params, (NET(batch[0]), batch[1]))
