"""Derivatives of one step, by autograd where it follows all parameters anyway."""

import pytest
import torch
from torch.func import grad, vmap

import funcopt as fo
from funcopt.errors import DerivativeError, StructureError
from funcopt.training import _grad

from . import common

TX, (TEST,) = fo.adam(0.1), common.batches(1, seed=9)


@pytest.fixture
def by_autograd(monkeypatch):
    """Counts the steps in which autograd was asked."""
    asked = []
    of_torch = torch.autograd.grad

    def counted(*args, **options):
        if options.keys() == {"create_graph", "allow_unused"}:
            asked.append(args)
        return of_torch(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    return asked


def live():
    return fo.tree.map(lambda p: p.clone().requires_grad_(), common.params())


def after(params, steps=3, loss=common.loss, batches=None):
    step = fo.train_step(loss, TX)
    batches = common.batches(steps) if batches is None else batches
    state, losses = fo.unroll(step, fo.TrainState.start(TX, params), batches)
    return common.loss(state.params, TEST) + losses.sum()


def by_params(params, value):
    leaves, spec = fo.tree.flatten(params)
    return spec.unflatten(torch.autograd.grad(value, leaves))


def test_it_is_the_derivative_of_torch_func(by_autograd):
    params = live()
    found = by_params(params, after(params))
    assert len(by_autograd) == 3
    assert common.close(found, grad(after)(common.params()), 1e-13)


def test_second_derivatives(by_autograd):
    params = live()
    first = grad(after)(params)
    second = by_params(params, fo.tree.dot(first, first))
    assert not by_autograd  # inside of `torch.func` its own derivative is needed
    expected = grad(lambda p: fo.tree.dot(grad(after)(p), grad(after)(p)))(common.params())
    assert common.close(second, expected, 1e-12)
    leaves, spec = fo.tree.flatten(params)
    found = spec.unflatten(torch.autograd.grad(after(params), leaves, create_graph=True))
    assert common.close(by_params(params, fo.tree.dot(found, found)), expected, 1e-12)


def test_what_the_loss_has_closed_over_has_its_derivative():
    weight, params = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), live()

    def total(weight, params):
        return after(params, loss=lambda p, batch: weight * common.loss(p, batch))

    (found,) = torch.autograd.grad(total(weight, params), weight)
    torch.testing.assert_close(found, grad(total)(weight.detach(), common.params()))


def test_mapped_over_data_of_parameters_that_autograd_follows(by_autograd):
    params, batches = live(), fo.stack(common.batches(4))
    many = vmap(lambda batch: after(params, batches=[batch]))(batches)
    assert not by_autograd
    total = sum(after(common.params(), batches=[batch]) for batch in fo.unstack(batches))
    torch.testing.assert_close(many.sum().detach(), total)
    expected = grad(lambda p: vmap(lambda b: after(p, batches=[b]))(batches).sum())(common.params())
    assert common.close(by_params(params, many.sum()), expected, 1e-13)


@pytest.mark.parametrize("which", ["none", "one", "no_grad"])
def test_no_history_but_what_was_asked_for(which, by_autograd):
    params = common.params()
    if which == "one":
        params["1"]["bias"].requires_grad_()
    elif which == "no_grad":
        params = live()
    with torch.set_grad_enabled(which != "no_grad"):
        value = after(params)
    # After the first step, all of them depend on the one.
    assert len(by_autograd) == (2 if which == "one" else 0)
    assert value.requires_grad == (which == "one")


@pytest.mark.parametrize("params", [common.params(), live()])
def test_a_loss_that_depends_on_no_parameter_is_an_error_and_on_some_is_not(params):
    other = torch.ones(1, requires_grad=True)  # as those of a module that is called itself
    for value in (torch.tensor(1.0), other.sum()):
        step = fo.train_step(lambda p, batch, value=value: value, fo.sgd(0.1))
        with pytest.raises(DerivativeError, match="the loss does not depend on its parameters"):
            step(fo.TrainState.start(step.tx, params), None)
    some = fo.train_step(lambda p, batch: p["1"]["bias"].sum(), fo.sgd(0.1))
    state, _ = some(fo.TrainState.start(some.tx, params), None)
    assert torch.equal(state.params["1"]["weight"], params["1"]["weight"])


def test_a_loss_of_more_than_one_number_is_refused_either_way():
    for params in (common.params(), live()):
        step = fo.train_step(lambda p, batch: p["1"]["bias"].sum()[None], fo.sgd(0.1))
        with pytest.raises(StructureError, match=r"a tensor of shape \(1,\)"):
            step(fo.TrainState.start(step.tx, params), None)


def test_without_parameters_there_is_nothing_to_derive_by():
    (found,), (value, _) = _grad.live_slopes(lambda p: (torch.ones(()), ()), ({},))
    assert found == {}
    assert value == 1.0


def test_what_else_is_made_of_the_parameters_is_not_differentiated():
    """The derivative is by the parameters that the loss is given, as in `torch.func.grad`."""

    def loss(params, target):
        w = params["w"]
        return ((w - target) ** 2).sum() + (w * target).sum()

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    step = fo.train_step(loss, fo.sgd(0.1))
    found = []
    for start, target in ((w, 2 * w), (w.detach(), 2 * w.detach())):
        params = {"w": start}
        state, _ = step(fo.TrainState.start(fo.sgd(0.1), params), target)
        found.append(state.params["w"].detach())
    assert torch.equal(*found)
