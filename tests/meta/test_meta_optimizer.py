"""Differentiable steps on a module."""

import copy

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


class Tracked(nn.Module):
    """A batch norm that two places share, and dropout."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.other = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.last(self.other(self.norm(self.first(x))))


@pytest.fixture
def tracked():
    torch.manual_seed(0)
    net = Tracked().double()
    net.other._buffers = dict(net.norm._buffers)  # tied running statistics
    return net


def test_buffers_and_modes_come_back(tracked):
    before = {k: v.clone() for k, v in tracked.state_dict().items()}
    tensors = dict(tracked.named_buffers())
    with fo.MetaOptimizer(tracked, fo.sgd(0.1)).adapting() as inner:
        for _ in range(2):
            inner.step(mse_loss(tracked(5 * X + 2), Y))
        assert tracked.norm.num_batches_tracked == 4  # one for both
        assert not torch.equal(tracked.norm.running_mean, before["norm.running_mean"])
        tracked.eval()
        outer = mse_loss(tracked(X), Y)
    assert tracked.training
    assert tracked.norm.training
    assert all(b is tensors[name] for name, b in tracked.named_buffers())
    assert common.close(dict(tracked.state_dict()), before, 0.0)
    outer.backward()  # nothing that it needs was written over
    assert tracked.first.weight.grad.any()


def test_the_outer_derivative_is_as_if_nothing_had_been_put_back(tracked):
    def slope(inside):
        module = copy.deepcopy(tracked)
        inner = fo.MetaOptimizer(module, fo.sgd(0.1))
        start = module.first.weight
        if inside:
            with inner.adapting():
                inner.step(mse_loss(module(X), Y))
                outer = mse_loss(module(X), 2 * Y)
        else:
            inner.step(mse_loss(module(X), Y))
            outer = mse_loss(module(X), 2 * Y)
        return torch.autograd.grad(outer, start)[0]

    assert common.close(slope(True), slope(False), 0.0)


def test_going_back_takes_the_buffers_with_it(tracked):
    inner = fo.MetaOptimizer(tracked, fo.sgd(0.1))
    inner.step(mse_loss(tracked(X), Y))
    here, buffers = inner.state, {k: b.clone() for k, b in tracked.named_buffers()}
    inner.step(mse_loss(tracked(X + 3), Y))
    inner.state = here
    assert common.close(dict(tracked.named_buffers()), buffers, 0.0)
    tracked(X - 3)
    inner.state = here  # nothing has changed it
    assert common.close(dict(tracked.named_buffers()), buffers, 0.0)
    assert tracked.norm.running_mean is tracked.other.running_mean


def test_tasks_do_not_see_one_another(tracked):
    inner = fo.MetaOptimizer(tracked, fo.sgd(0.1))

    def task(shift):
        with inner.adapting():
            inner.step(mse_loss(tracked(X + shift), Y))
            tracked.eval()
            return mse_loss(tracked(X), Y).detach()

    alone = task(1.0)
    task(5.0)
    assert torch.equal(task(1.0), alone)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fo.schedule_free_sgd(0.1),
        lambda: fo.chain(fo.sgd(0.1), fo.ema_of_params(0.5)),
        lambda: fo.sgd(0.1),
    ],
)
def test_it_can_evaluate_the_averages(net, make):
    with fo.MetaOptimizer(net, make()).adapting() as inner:
        start = inner.state.params["first.weight"]
        for _ in range(3):
            inner.step(mse_loss(net(X), Y))
        trained = net.first.weight
        with inner.averaged():
            expected = fo.eval_params(inner.tx, inner.state.opt_state, inner.state.params)
            assert torch.equal(net.first.weight, expected["first.weight"])
            assert net.second.weight is net.first.weight
            outer = mse_loss(net(X), Y)
        assert net.first.weight is trained
    assert torch.autograd.grad(outer, start)[0].any()


def test_stages_that_ask_for_the_loss_get_it(net):
    class by_the_loss(fo.TensorRule):
        elementwise = True

        def conclude(self, s, memory, total, *, value):
            return {"value": value}, memory

        def update_tensor(self, g, slots, p, s):
            return -0.1 * s.value * g, slots

    with fo.MetaOptimizer(net, by_the_loss()).adapting() as inner:
        loss, before = mse_loss(net(X), Y), net.first.bias
        (g,) = torch.autograd.grad(loss, before, retain_graph=True)
        inner.step(loss)
        torch.testing.assert_close(net.first.bias, before - 0.1 * loss * g)
