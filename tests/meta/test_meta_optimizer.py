"""Differentiable steps on a module."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import mse_loss

import funcopt as fo

from ..training import common


class Net(nn.Module):
    """Two layers that share a matrix, and one that the loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().double()


X, Y = (torch.randn(8, 3, dtype=torch.float64) for _ in range(2))


def adapted(net, tx, steps=3):
    """The outer loss after some steps of the functional form, of the parameters."""

    def loss(params, batch):
        return mse_loss(functional_call(net, params, (X,)), batch)

    def outer(params):
        state = fo.TrainState.start(tx, params)
        state, _ = fo.unroll(fo.train_step(loss, tx), state, [Y] * steps)
        return mse_loss(functional_call(net, state.params, (X,)), 2 * Y)

    return outer


@pytest.mark.parametrize("make", [lambda: fo.sgd(0.1, momentum=0.9), lambda: fo.adam(0.1)])
def test_it_is_the_functional_form(net, make):
    names = [name for name, _ in net.named_parameters() if "unused" not in name]
    expected = grad(adapted(net, make()))(fo.split_module(net).params)
    with fo.MetaOptimizer(net, make()).adapting() as inner:
        for _ in range(3):
            inner.step(mse_loss(net(X), Y))
        assert net.first.weight is net.second.weight
        outer = mse_loss(net(X), 2 * Y)
    outer.backward()
    for name in names:
        torch.testing.assert_close(
            net.get_parameter(name).grad, expected[name], rtol=1e-10, atol=1e-12
        )
    assert net.unused.weight.grad is None


def test_rates_are_learned(net):
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    with fo.MetaOptimizer(net, fo.sgd(rate)).adapting() as inner:
        for _ in range(3):
            inner.step(mse_loss(net(X), Y))
        outer = mse_loss(net(X), 2 * Y)
    (slope,) = torch.autograd.grad(outer, rate)
    params = fo.split_module(net).params
    expected = grad(lambda r: adapted(net, fo.sgd(r))(params))(rate.detach())
    torch.testing.assert_close(slope, expected)


def test_the_module_comes_back_whatever_happens(net):
    before = dict(net.named_parameters())
    inner = fo.MetaOptimizer(net, fo.sgd(0.1))

    def fails():
        with inner.adapting():
            inner.step(mse_loss(net(X), Y))
            assert type(net.first.weight) is torch.Tensor
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert all(p is before[name] for name, p in net.named_parameters())
    assert inner.state.opt_state.step == 0


def test_going_back_to_where_it_was(net):
    inner = fo.MetaOptimizer(net, fo.adam(0.1))
    inner.step(mse_loss(net(X), Y))
    here, value = inner.state, mse_loss(net(X), Y)
    inner.step(value)
    assert mse_loss(net(X), Y) != value
    inner.state = here
    assert mse_loss(net(X), Y) == value
    assert inner.state.opt_state.step == 1


def test_the_history_ends_where_it_is_cut(net):
    start = net.first.weight
    inner = fo.MetaOptimizer(net, fo.sgd(0.1))
    inner.step(mse_loss(net(X), Y))
    inner.detach()
    inner.step(mse_loss(net(X), Y))
    (slope,) = torch.autograd.grad(mse_loss(net(X), Y), start, allow_unused=True)
    assert slope is None
    assert common.close(inner.state.opt_state.step, torch.tensor(2))
