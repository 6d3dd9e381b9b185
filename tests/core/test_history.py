"""A loop of pure updates keeps no history that nobody has asked for."""

import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

import funcopt as fo
from funcopt.errors import LeafError

TXS = [fo.sgd(0.1), fo.adamw(1e-3), fo.accumulate(fo.sgd(0.1), 2), fo.lbfgs(max_iter=1)]


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def depth(x):
    deep, node = 0, x.grad_fn
    while node is not None:
        deep, node = deep + 1, node.next_functions[0][0] if node.next_functions else None
    return deep


@pytest.mark.parametrize("tx", TXS, ids=lambda tx: type(tx).__name__)
def test_parameters_of_a_module_are_warned_of(layer, tx):
    with pytest.warns(UserWarning, match=r"is a parameter that requires grad.*Detach"):
        tx.init(dict(layer.named_parameters()))


def test_what_is_warned_of_happens(layer):
    params, tx = dict(layer.named_parameters()), fo.adamw(1e-3)
    with pytest.warns(UserWarning, match="keeps the graphs of all of them"):
        state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(fo.tree.map(torch.ones_like, params), state, params)
        params = fo.apply_updates(params, updates)
    assert depth(params["weight"]) > 5


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: fo.split_module(layer).params,
        lambda layer: {k: p.detach() for k, p in layer.named_parameters()},
    ],
)
def test_the_ways_that_it_names_keep_none(layer, make):
    params, tx = make(layer), fo.adamw(1e-3)
    state = tx.init(params)
    for _ in range(5):
        g = grad(lambda p: functional_call(layer, p, (torch.ones(2, 4),)).square().mean())(params)
        updates, state = tx.update(g, state, params)
        params = fo.apply_updates(params, updates)
    assert not any(x.requires_grad for x in fo.tree.leaves((params, state)))


def test_nothing_is_said_where_it_is_meant_or_does_not_happen(layer):
    params, tx = dict(layer.named_parameters()), fo.sgd(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            tx.init(params)
        tx.init({k: p.view_as(p) for k, p in params.items()})
        tx.init(fo.tree.map(lambda p: p.detach().requires_grad_(), params))
        tx.init({k: p.requires_grad_(False) for k, p in params.items()})
        layer.requires_grad_()
        fo.MetaOptimizer(layer, tx)
        fo.Optimizer(layer.parameters(), tx)


@pytest.mark.parametrize("tx", TXS, ids=lambda tx: type(tx).__name__)
def test_the_error_for_a_module_names_what_forgets(layer, tx):
    with pytest.raises(LeafError, match=r"split_module\(model\)"):
        tx.init(layer)
    with pytest.raises(LeafError, match=r"split_module\(model\)"):
        tx.init({"n": torch.ones(2, dtype=torch.int64)})
