"""One step of training, as a pure function."""

import pickle

import pytest
import torch

import funcopt as fo

from . import common


def test_it_is_a_step_by_hand():
    tx, (batch,) = fo.adamw(0.1), common.batches(1)
    params = common.params()
    opt_state = tx.init(params)
    grads, value = torch.func.grad_and_value(common.loss)(params, batch)
    updates, opt_state = tx.update(grads, opt_state, params)
    state, found = fo.train_step(common.loss, tx)(fo.TrainState.start(tx, params), batch)
    assert common.close(state.params, fo.apply_updates(params, updates), 0.0)
    assert common.close(state.opt_state, opt_state, 0.0)
    assert torch.equal(found, value)


@pytest.mark.parametrize("name", common.every_transformation())
def test_nothing_is_changed(name):
    tx, batches = common.every_transformation()[name], common.batches(4)
    start = fo.TrainState.start(tx, common.params())
    kept = fo.tree.map(torch.clone, start)
    versions = [x._version for x in fo.tree.leaves(start)]
    common.trained(tx, start, batches)
    assert common.close(start, kept, 0.0)
    assert versions == [x._version for x in fo.tree.leaves(start)]


@pytest.mark.parametrize("name", common.every_transformation())
def test_no_history_is_kept_where_nothing_requires_grad(name):
    tx = common.every_transformation()[name]
    state, losses = common.trained(tx, fo.TrainState.start(tx, common.params()), common.batches(4))
    assert not any(x.requires_grad for x in fo.tree.leaves((state, losses)))


def test_gradients_of_each_example():
    tx, (batch,) = fo.dp_aggregate(0.1, 0.0), common.batches(1)
    start = fo.TrainState.start(tx, common.params())
    state, value = fo.train_step(common.loss, tx)(start, batch)
    total = fo.tree.zeros_like(start.params)
    for x, y in zip(*batch, strict=True):
        grads = torch.func.grad(common.loss)(start.params, (x[None], y[None]))
        share = min(1.0, 0.1 / fo.tree.norm(grads).item())
        total = fo.tree.map(lambda t, g, share=share: t + share * g / 8, total, grads)
    assert common.close(state.params, fo.apply_updates(start.params, total), 1e-12)
    torch.testing.assert_close(value, common.loss(start.params, batch))
    with pytest.raises(fo.errors.StructureError, match="takes a gradient for each example"):
        fo.train_step(common.loss, tx)(start._replace(buffers={"a": torch.zeros(1)}), batch)


def test_it_is_a_value():
    step = fo.train_step(common.loss, fo.adam(0.1))
    assert repr(step).split()[:2] == ["train_step(", "loss,"]
    assert pickle.loads(pickle.dumps(step)) == step


def test_buffers_go_in_and_out():
    def loss(params, buffers, batch):
        mean = 0.9 * buffers["mean"] + 0.1 * batch.mean(0)
        return ((batch - mean - params) ** 2).mean(), {"mean": mean}

    tx, batch = fo.sgd(0.5), torch.ones(4, 2)
    start = fo.TrainState.start(tx, torch.zeros(2), {"mean": torch.zeros(2)})
    state, value = fo.train_step(loss, tx)(start, batch)
    torch.testing.assert_close(state.buffers["mean"], torch.full((2,), 0.1))
    torch.testing.assert_close(value, torch.tensor(0.81))
    torch.testing.assert_close(state.params, torch.full((2,), 0.45))


def test_the_loss_is_offered_to_those_who_ask_for_it():
    class by_loss(fo.TensorRule):
        def conclude(self, s, memory, total, *, value):
            return {"loss": value}, memory

        def update_tensor(self, g, slots, p, s):
            return 0 * g + s.loss, slots

    tx, (batch,) = by_loss(), common.batches(1)
    state, value = fo.train_step(common.loss, tx)(fo.TrainState.start(tx, common.params()), batch)
    assert common.close(state.params, fo.tree.map(lambda p: p + value, common.params()))


@pytest.mark.parametrize("tx", [fo.sam(fo.sgd(0.1)), fo.lbfgs()], ids=["sam", "lbfgs"])
def test_the_loss_is_offered_as_a_function(tx):
    params, (batch,) = common.params(), common.batches(1)

    def value_fn(params):
        return common.loss(params, batch)

    grads, value = torch.func.grad_and_value(value_fn)(params)
    extra = {"value": value, "value_fn": value_fn}
    known = {name: extra[name] for name in extra if name in tx.extra_names()}
    updates, _ = tx.update(grads, tx.init(params), params, **known)
    state, _ = fo.train_step(common.loss, tx)(fo.TrainState.start(tx, params), batch)
    assert common.close(state.params, fo.apply_updates(params, updates), 1e-12)


# What a loss returns


def with_metrics(params, batch):
    value = common.loss(params, batch)
    return value, {"twice": 2 * value, "count": torch.tensor(3)}


def test_what_a_loss_returns_besides():
    tx, (batch,) = fo.sgd(0.1), common.batches(1)
    start = fo.TrainState.start(tx, common.params())
    expected, value = fo.train_step(common.loss, tx)(start, batch)
    step = fo.train_step(with_metrics, tx, has_aux=True)
    state, (found, aux) = step(start, batch)
    assert common.close(state, expected, 0.0)
    assert torch.equal(found, value)
    assert torch.equal(aux["twice"], 2 * value)
    _, (losses, metrics) = fo.unroll(step, start, [batch] * 3)
    assert losses.shape == metrics["twice"].shape == (3,)
    many, (_, stacked) = torch.func.vmap(step, in_dims=(0, None))(fo.stack([start, start]), batch)
    assert common.close(fo.unstack(many)[1], expected, 1e-12)
    assert stacked["twice"].shape == (2,)


def test_what_a_loss_returns_besides_buffers():
    def loss(params, buffers, batch):
        aux = {"twice": torch.tensor(2.0)}
        return common.loss(params, batch), {"seen": buffers["seen"] + 1}, aux

    tx, (batch,) = fo.sgd(0.1), common.batches(1)
    start = fo.TrainState.start(tx, common.params(), {"seen": torch.tensor(0)})
    state, (_, aux) = fo.train_step(loss, tx, has_aux=True)(start, batch)
    assert state.buffers["seen"] == 1
    assert aux["twice"] == 2


def test_what_a_loss_returns_of_each_example():
    tx, (batch,) = fo.dpsgd(0.1, max_norm=0.5, noise_multiplier=0.0), common.batches(1)
    step = fo.train_step(with_metrics, tx, has_aux=True)
    _, (value, aux) = step(fo.TrainState.start(tx, common.params()), batch)
    assert aux["twice"].shape == (8,)
    torch.testing.assert_close(aux["twice"].mean(), 2 * value)


def test_a_search_sees_the_value_alone():
    tx = fo.lbfgs(max_iter=2, history_size=2, line_search=fo.backtracking())
    start, (batch,) = fo.TrainState.start(tx, common.params()), common.batches(1)
    expected, _ = fo.train_step(common.loss, tx)(start, batch)
    state, _ = fo.train_step(with_metrics, tx, has_aux=True)(start, batch)
    assert common.close(state, expected, 0.0)


@pytest.mark.parametrize(
    ("returned", "options", "buffers", "said"),
    [
        (lambda v: (v, {}), {}, (), "`loss` must return the value alone, where the value is a 0-d"),
        (
            lambda v: (v, v),
            {},
            (),
            "got a tuple of a tensor of shape () in torch.float64, a tensor",
        ),
        (lambda v: v, {"has_aux": True}, (), r"must return (value, aux)"),
        (lambda v: v, {}, {"b": torch.ones(1)}, r"must return (value, buffers)"),
        (lambda v: (v, {}), {"has_aux": True}, {"b": torch.ones(1)}, "(value, buffers, aux)"),
        (lambda v: v[None], {}, (), "got a tensor of shape (1,) in torch.float64"),
        (lambda v: v.detach().item(), {}, (), "got float"),
        (lambda v: {"loss": v}, {}, (), "got dict"),
    ],
)
@pytest.mark.parametrize("examples", [False, True])
def test_a_loss_that_returns_something_else(returned, options, buffers, said, examples):
    if examples and (buffers or "float" in said):
        pytest.skip("refused before, or no number under vmap")
    tx = fo.dpsgd(0.1, max_norm=0.5, noise_multiplier=0.0) if examples else fo.sgd(0.1)
    loss = lambda params, *rest: returned(common.loss(params, rest[-1]))  # noqa: E731
    start = fo.TrainState.start(tx, common.params(), buffers)
    with pytest.raises(fo.errors.StructureError) as error:
        fo.train_step(loss, tx, **options)(start, common.batches(1)[0])
    assert said in str(error.value)
    assert "has_aux=True" in str(error.value)
