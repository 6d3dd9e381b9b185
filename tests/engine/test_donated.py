"""The pure form in place: the same numbers, the same memory, and nobody uses what is used up."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import DonatedError, StructureError, TiedParametersError

from ..cases import CASES, PARAMS
from .common import gap

CASES = [case for case in CASES if not case.tx.takes_examples() and not case.tx.extra_names()]


def double(params):
    return fo.tree.map(lambda p: p.double(), params)


def gradients(params, t):
    return fo.tree.map(lambda p: 0.3 * p + (p + t).sin(), params)


def some_params():
    return {"w": torch.ones(3, 2), "b": torch.ones(2)}


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("name", ["a nested tree", "a bare 0-d tensor"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_donated_steps_are_pure_steps(case, name, engine):
    params = PARAMS[name]
    try:
        state = case.tx.init(double(params))
    except ValueError:
        return  # labels that do not fit these parameters
    params = double(params)
    step = fo.donated(case.tx, engine=engine)
    mine = fo.tree.map(torch.clone, params)
    own = case.tx.init(mine)
    for t in range(4):
        updates, state = case.tx.update(gradients(params, t), state, params)
        params = fo.apply_updates(params, updates)
        mine, own = step(mine, gradients(mine, t), own)
    assert gap(fo.tree.leaves((params, state)), fo.tree.leaves((mine, own))) <= 1e-12


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_what_comes_out_lies_where_that_lay_which_went_in(engine):
    params = some_params()
    tx = fo.adamw()
    state = tx.init(params)
    places = [x.data_ptr() for x in fo.tree.leaves((params, state.slots))]
    step = fo.donated(tx, engine=engine)
    for _ in range(3):
        params, state = step(params, gradients(params, 0), state)
    assert [x.data_ptr() for x in fo.tree.leaves((params, state.slots))] == places
    assert state.step == 3
    assert step.engine == engine


def test_what_was_donated_cannot_be_used():
    params, tx = some_params(), fo.adamw()
    state = tx.init(params)
    step = fo.donated(tx)
    grads = gradients(params, 0)
    new, _ = step(params, grads, state)
    message = "this tensor was donated to a step"
    for use in (
        lambda: params["w"] + 1,
        lambda: params["b"].sum(),
        lambda: repr(params["w"]),
        lambda: state.slots["w"][0].exp_avg * 2,
        lambda: step(params, grads, state),
        lambda: step(new, grads, state),
        lambda: tx.update(grads, state, new),
    ):
        with pytest.raises(DonatedError, match=message):
            use()
    assert grads["w"].isfinite().all()  # gradients are only read


def test_parameters_of_a_module_are_changed_and_stay():
    net = torch.nn.Linear(2, 1)
    params = dict(net.named_parameters())
    before = net.weight.detach().clone()
    step = fo.donated(fo.sgd(0.1))
    grads = {name: torch.ones_like(p) for name, p in params.items()}
    params, _ = step(params, grads, step.init(params))
    assert params["weight"] is net.weight
    assert torch.allclose(net.weight, before - 0.1)
    assert net.weight.requires_grad


def test_a_tensor_that_requires_gradients_still_does():
    params = {"w": torch.ones(2, requires_grad=True)}
    step = fo.donated(fo.sgd(0.1))
    state = step.init(params)
    new, _ = step(params, {"w": torch.ones(2)}, state)
    assert new["w"].requires_grad
    assert new["w"].is_leaf


def test_without_a_gradient_a_parameter_is_left():
    params, step = some_params(), fo.donated(fo.adamw())
    state = step.tx.init(params)
    kept = params["w"]
    new, after = step(params, {"w": None, "b": torch.ones(2)}, state)
    assert new["w"] is kept
    assert torch.equal(kept, torch.ones(3, 2))
    assert not torch.equal(new["b"], torch.ones(2))
    assert after.step == 1


def test_a_graph_that_needs_the_old_values_notices():
    p = torch.ones(2, requires_grad=True)
    loss = (p * p).sum()
    step = fo.donated(fo.sgd(0.1), engine="fused")
    params = {"p": p}
    step(params, {"p": torch.ones(2)}, step.tx.init(params))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("broken", ["shape", "missing", "tied", "state"])
def test_what_does_not_fit_is_refused_and_nothing_is_used_up(broken):
    params, tx = some_params(), fo.adamw()
    state, grads = tx.init(params), gradients(some_params(), 0)
    step = fo.donated(tx)
    if broken == "shape":
        grads["w"] = torch.ones(2, 3)
    elif broken == "missing":
        del grads["w"]
    elif broken == "tied":
        params["w"] = params["b"] = torch.ones(2)
        grads["w"] = grads["b"]
    else:
        state = ()
    with pytest.raises(TiedParametersError if broken == "tied" else StructureError):
        step(params, grads, state)
    assert torch.equal(params["b"], torch.ones(2))


def test_it_maps_and_differentiates_as_the_pure_form():
    step = fo.donated(fo.sgd(0.1))

    def after(w):
        params = {"w": w}
        new, _ = step(params, {"w": w * w}, step.tx.init(params))
        return new["w"].sum()

    ws = torch.arange(6.0).reshape(3, 2)
    slopes = torch.func.vmap(torch.func.grad(after))(ws)
    assert torch.allclose(slopes, 1 - 0.2 * ws)


def test_extra_arguments_reach_their_stage():
    class drop_by(fo.TensorRule):
        elementwise = True

        def conclude(self, s, memory, total, *, value):
            return {"value": value}, memory

        def update_tensor(self, g, slots, p, s):
            return -s.value * g, slots

    step = fo.donated(drop_by(), engine="fused")
    params = some_params()
    state = step.tx.init(params)
    grads = fo.tree.map(torch.ones_like, params)
    for value in (1.0, torch.tensor(0.5)):
        params, state = step(params, grads, state, value=value)
    assert torch.allclose(params["w"], torch.full((3, 2), -0.5))
    with pytest.raises(fo.errors.ExtraArgumentError):
        step(params, grads, state, nobody=1)
