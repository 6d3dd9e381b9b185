"""Modules as pure functions."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn.functional import mse_loss

import funcopt as fo

from . import common


class Tied(nn.Module):
    """Encodes and decodes with one matrix, with a batch norm and dropout between."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.encode = nn.Linear(4, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(rate)
        self.decode = nn.Linear(4, 4, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.drop(self.norm(self.encode(x))))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tied().double()


@pytest.fixture
def x():
    return torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss_of(model):
    parts = fo.split_module(model)

    def loss(params, buffers, x):
        state = parts._replace(params=params, buffers=buffers)
        out, buffers = fo.call_module(model, state, x)
        return mse_loss(out, x), buffers

    return loss, parts


def snapshot(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


def test_a_tied_parameter_comes_once(model):
    parts = fo.split_module(model)
    assert list(parts.params) == ["encode.weight", "norm.weight", "norm.bias"]
    assert list(parts.frozen) == []
    assert list(parts.buffers) == [
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]
    assert not any(x.requires_grad for x in fo.tree.leaves(parts))


def test_who_is_trained(model):
    model.norm.weight.requires_grad_(False)
    assert list(fo.split_module(model).frozen) == ["norm.weight"]
    assert list(fo.split_module(model, r"bias$").params) == ["norm.bias"]
    by_shape = fo.split_module(model, lambda name, p: p.ndim > 1)
    assert list(by_shape.params) == ["encode.weight"]
    with pytest.raises(fo.errors.LabelError, match=r"'head' fits none of the parameters \['encode"):
        fo.split_module(model, "head")


def test_a_call_changes_neither_the_module_nor_what_is_passed(model, x):
    before, parts = snapshot(model), fo.split_module(model)
    versions = [t._version for t in fo.tree.leaves(parts)]
    out, buffers = fo.call_module(model, parts, x)
    assert common.close(snapshot(model), before, 0.0)
    assert versions == [t._version for t in fo.tree.leaves(parts)]
    expected = model(x)  # which does change the module
    assert torch.equal(out, expected)
    assert common.close(buffers, dict(model.named_buffers()), 0.0)
    assert not torch.equal(buffers["norm.running_mean"], before["norm.running_mean"])


def test_training_is_that_of_torch(model, x):
    loss, parts = loss_of(model)
    tx = fo.adamw(0.1)
    state = fo.TrainState.start(tx, parts.params, parts.buffers)
    for _ in range(5):
        state, _ = fo.train_step(loss, tx)(state, x)
    opt = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(5):
        opt.zero_grad()
        mse_loss(model(x), x).backward()
        opt.step()
    assert common.close(state.params, {k: p.detach() for k, p in model.named_parameters()}, 1e-12)
    assert common.close(state.buffers, dict(model.named_buffers()), 1e-12)


def test_frozen_parameters_stand_still(model, x):
    parts = fo.split_module(model, "norm")

    def loss(params, buffers, x):
        out, buffers = fo.call_module(model, parts._replace(params=params, buffers=buffers), x)
        return mse_loss(out, x), buffers

    tx = fo.sgd(0.1)
    state, _ = fo.train_step(loss, tx)(fo.TrainState.start(tx, parts.params, parts.buffers), x)
    assert set(state.params) == {"norm.weight", "norm.bias"}
    assert (state.params["norm.bias"] != parts.params["norm.bias"]).all()


def test_statistics_of_many_models_at_once(model, x):
    loss, parts = loss_of(model)
    tx, step = fo.adam(0.1), fo.train_step(loss, fo.adam(0.1))
    starts = [
        fo.TrainState.start(
            tx, fo.tree.map(lambda p, i=i: p * (1 + i), parts.params), parts.buffers
        )
        for i in range(3)
    ]
    state = fo.stack(starts)
    for _ in range(3):
        state, _ = vmap(step, in_dims=(0, None))(state, x)
    for one, start in zip(fo.unstack(state), starts, strict=True):
        for _ in range(3):
            start, _ = step(start, x)
        assert common.close(one, start)


def test_derivatives_go_through_training_with_statistics(model, x):
    """By the learning rate, through three steps with a batch norm, against a difference."""
    loss, parts = loss_of(model)

    def after(rate):
        tx = fo.sgd(rate, momentum=0.9)
        state = fo.TrainState.start(tx, parts.params, parts.buffers)
        for _ in range(3):
            state, _ = fo.train_step(loss, tx)(state, x)
        return loss(state.params, state.buffers, x)[0]

    rate = torch.tensor(0.1, dtype=torch.float64)
    slope = (after(rate + 1e-6) - after(rate - 1e-6)) / 2e-6
    torch.testing.assert_close(grad(after)(rate), slope, rtol=1e-7, atol=0)


def test_dropout_differs_from_model_to_model(x):
    torch.manual_seed(0)
    model = Tied(rate=0.5).double()
    loss, parts = loss_of(model)
    tx = fo.sgd(0.1)
    start = fo.TrainState.start(tx, parts.params, parts.buffers)
    step, state = fo.train_step(loss, tx), fo.stack([start, start])
    _, values = vmap(step, in_dims=(0, None), randomness="different")(state, x)
    assert (values[0] - values[1]).abs() > 1e-3
    _, values = vmap(step, in_dims=(0, None), randomness="same")(state, x)
    torch.testing.assert_close(values[0], values[1])  # rows of one product may round otherwise


def test_the_way_back(model, x):
    loss, parts = loss_of(model)
    tx = fo.sgd(0.1)
    state, _ = fo.train_step(loss, tx)(fo.TrainState.start(tx, parts.params, parts.buffers), x)
    weight = model.encode.weight
    fo.write_back(model, parts._replace(params=state.params, buffers=state.buffers))
    assert model.encode.weight is weight  # in place
    assert model.decode.weight is weight  # still tied
    assert weight.requires_grad
    assert weight.is_leaf
    assert common.close(fo.split_module(model).params, state.params, 0.0)
    assert common.close(fo.split_module(model).buffers, state.buffers, 0.0)


def test_frozen_parameters_go_back_too(model):
    parts = fo.split_module(model, "norm")
    moved = fo.tree.map(lambda x: x + 1, parts)
    fo.write_back(model, moved)
    assert common.close(fo.split_module(model, "norm"), moved, 0.0)


def test_what_does_not_fit_changes_nothing(model):
    parts, before = fo.split_module(model), snapshot(model)
    moved = fo.tree.map(lambda x: x + 1, parts)
    moved.params["head"] = torch.zeros(2)
    with pytest.raises(fo.errors.StructureError, match=r"Unknown: \['head'\]"):
        fo.write_back(model, moved)
    stacked = fo.stack([parts, parts])
    with pytest.raises(fo.errors.StructureError, match=r"\(2, 4, 4\) instead of \(4, 4\)"):
        fo.write_back(model, stacked)
    assert common.close(snapshot(model), before, 0.0)
