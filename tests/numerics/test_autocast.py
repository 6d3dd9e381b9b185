"""A step inside of an autocast region is the step outside of it; the loss in it is inside."""

import pytest
import torch
from torch import nn

import funcopt as fo

from ..cases import CASES, PARAMS, by_dimension

ENGINES = ["eager", "foreach", "fused", "auto"]

MATRICES = {
    "soap": lambda: fo.soap(0.01, precondition_frequency=1),
    "shampoo": lambda: fo.shampoo(0.01),
    "muon": lambda: fo.muon(0.01, ns_dtype=torch.float32, labels=of_matrices),
    "masked": lambda: fo.chain(
        fo.masked(fo.scale_by_muon(ns_dtype=None), lambda name, p: p.ndim > 1), fo.sgd(0.1)
    ),
    "cautious": lambda: fo.cautious(fo.soap(0.01, precondition_frequency=1)),
    "skip_if": lambda: fo.skip_if(fo.soap(0.01, precondition_frequency=1)),
    "accumulate": lambda: fo.accumulate(fo.shampoo(0.01), 2),
    "a function of whole trees": lambda: fo.chain(fo.from_functions(power, powered), fo.sgd(0.1)),
}


def of_matrices(name, p):
    return "muon" if by_dimension(name, p) == "matrix" else "adamw"


def squared(x):
    return x @ x.mT @ x if x.ndim == 2 else x


def power(params):
    return fo.tree.map(squared, params)


def powered(updates, state, params=None):
    new = fo.tree.map(lambda s, u: s + squared(u), state, updates)
    return fo.tree.map(torch.add, new, updates), new


def region(on, dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype=dtype, enabled=on)


def gradients(params, i):
    generator = torch.Generator().manual_seed(i)
    return fo.tree.map(lambda p: torch.randn(p.shape, generator=generator).to(p.dtype), params)


def purely(tx, params, on, extra, update=None):
    with region(on):
        state = tx.init(params)
        for i in range(3):
            grads = gradients(params, i)
            if tx.takes_examples():
                grads = fo.tree.map(lambda g: torch.stack([g, -0.5 * g]), grads)
            updates, state = (update or tx.update)(grads, state, params, **extra)
            params = fo.apply_updates(params, updates)
    return params, state


def equal(a, b):
    pairs = zip(fo.tree.leaves(a), fo.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_update_is_the_same_inside(case):
    params = PARAMS["a nested tree"]
    inside, outside = (purely(case.tx, params, on, case.extra) for on in (True, False))
    assert equal(inside, outside)


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_step_is_the_same_inside(make, dtype, engine):
    found = []
    for on in (True, False):
        model = net()
        opt = fo.Optimizer(model.named_parameters(), make(), engine=engine)
        for i in range(3):
            for p in model.parameters():
                p.grad = gradients(p, i)
            with region(on, dtype):
                opt.step()
        found.append([list(model.parameters()), list(map(dict, opt.state.values()))])
    assert equal(*found)


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_a_differentiable_step_is_the_same_inside(make):
    found = []
    for on in (True, False):
        start = [p.detach().requires_grad_() for p in net().parameters()]
        params = [p.clone() for p in start]
        opt = fo.Optimizer(params, make(), differentiable=True)
        for i in range(2):
            for p in params:
                p.grad = gradients(p, i)
            with region(on):
                opt.step()
        value = sum(p.square().sum() for p in params)
        found.append(torch.autograd.grad(value, start))
    assert equal(*found)


def test_compiled_and_vectorized_updates_are_the_same_inside():
    tx, params = fo.muon(0.1, ns_dtype=None, labels="muon"), {"w": torch.randn(3, 4)}
    compiled = torch.compile(tx.update, fullgraph=True, backend="eager")
    inside = purely(tx, params, True, {}, compiled)
    assert equal(inside, purely(tx, params, False, {}))

    def step(g):
        return tx.update({"w": g}, tx.init(params), params)[0]["w"]

    many = torch.randn(5, 3, 4)
    outside = torch.func.vmap(step)(many)
    with region(True):
        assert equal(torch.func.vmap(step)(many), outside)


def test_what_the_step_does_is_not_seen_outside_of_it():
    tx, params = fo.sgd(0.1), {"w": torch.ones(2, 2)}
    with region(True):
        tx.update(params, tx.init(params), params)
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_cache_enabled()
        with pytest.raises(fo.errors.FuncoptError):
            tx.update(params, (), params)
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


# The loss that a step evaluates again is inside, as it was written.

EVALUATING = {
    "sam": lambda: fo.sam(fo.sgd(0.1), 0.5),
    "lbfgs": lambda: fo.lbfgs(max_iter=3, line_search=fo.backtracking()),
    "a partition": lambda: fo.partition({"all": fo.sam(fo.sgd(0.1), 0.5)}, "all"),
}


@pytest.mark.parametrize("make", EVALUATING.values(), ids=EVALUATING)
def test_the_loss_of_an_update_is_computed_under_the_autocast_around_it(make):
    seen = []

    def loss(params):
        out = params["w"] @ params["w"].mT
        seen.append(out.dtype)
        return out.float().square().sum()

    tx, params = make(), {"w": torch.ones(2, 3)}
    state = tx.init(params)
    with region(True):
        grads = torch.func.grad(loss)(params)
        seen.clear()
        tx.update(grads, state, params, value_fn=loss)
    assert seen
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("make", EVALUATING.values(), ids=EVALUATING)
def test_a_closure_is_evaluated_under_autocast_with_the_parameters_of_each_call(make):
    """Autocast keeps copies of parameters until the region ends; the step moves these in place."""
    x, found = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), []
    for inside in (True, False):
        model, seen = net(), []
        opt = fo.Optimizer(model.parameters(), make())

        def closure(model=model, opt=opt, seen=seen):
            opt.zero_grad()
            with region(True):
                value = model(x).float().square().sum()
            value.backward()
            seen.append(value.item())
            return value

        with region(inside):
            for _ in range(3):
                opt.step(closure)
        found.append((seen, list(model.parameters())))
    assert found[0][0] == found[1][0]
    assert len(set(found[0][0])) > 3  # it moves
    assert equal(found[0][1], found[1][1])


def moved_by_a_step(model, opt):
    opt.step()


def moved_by_apply_updates(model, opt):
    params = dict(model.named_parameters())
    fo.apply_updates_(params, {name: torch.ones_like(p) for name, p in params.items()})


def moved_to_averages(model, opt):
    opt.eval()


def moved_back(model, opt):
    opt.eval()
    model(torch.ones(2, 6))
    opt.train()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "move", [moved_by_a_step, moved_by_apply_updates, moved_to_averages, moved_back]
)
def test_where_parameters_are_moved_in_place_the_model_goes_on_with_them(move, enabled):
    """An outer region, even one that is off, keeps the copies of the inner one."""
    model, x = net(), torch.ones(2, 6)
    tx = fo.chain(fo.sgd(0.5), fo.ema_of_params(0.5))
    opt = fo.Optimizer(model.parameters(), tx)

    def out():
        with region(True):
            return model(x).float()

    out().sum().backward()
    opt.step()
    opt.step()
    with region(enabled):
        before = out()
        move(model, opt)
        inside = out()
    assert torch.equal(inside, out())
    assert torch.equal(inside, before) == (move is moved_back)


# A default device is for what a model makes, too. "meta" stands for a GPU.

ANYWHERE = [
    lambda: fo.adamw(0.1),
    lambda: fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(fo.linear_schedule(0.1, 0.0, 9), 0.9)),
    lambda: fo.accumulate(fo.lookahead(fo.nadam(0.1), 2), 2),
    lambda: fo.skip_if(fo.soap(0.1, precondition_frequency=1)),
    lambda: fo.schedule_free_adamw(0.1),
    lambda: fo.prodigy(),
    lambda: fo.noisy_sgd(0.1),
]


@pytest.fixture
def default_device():
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.mark.parametrize("make", ANYWHERE)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_is_the_same_under_another_default_device(make, engine, default_device):
    found = []
    for device in (None, "meta"):
        model = net()
        opt = fo.Optimizer(model.named_parameters(), make(), engine=engine)
        for i in range(3):
            for p in model.parameters():
                p.grad = gradients(p, i)
            default_device(device)
            opt.step()
            default_device(None)
        found.append([list(model.parameters()), list(map(dict, opt.state.values()))])
    assert equal(*found)


@pytest.mark.parametrize("make", ANYWHERE)
def test_an_update_is_the_same_under_another_default_device(make, default_device):
    params, found = {"w": torch.ones(3, 4), "b": torch.ones(4)}, []
    grads = gradients(params, 0)
    for device in (None, "meta"):
        default_device(device)
        tx, now = make(), params
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(grads, state, now)
            now = fo.apply_updates(now, updates)
        default_device(None)
        found.append((now, state))
    assert equal(*found)


def test_the_loss_is_evaluated_under_the_default_device_around_the_step(default_device):
    seen = []

    def loss(params):
        seen.append(torch.empty(0).device.type)
        return params["w"].square().sum()

    tx, params = fo.sam(fo.sgd(0.1)), {"w": torch.ones(2)}
    state = tx.init(params)
    default_device("meta")
    tx.update(params, state, params, value_fn=loss)
    assert set(seen) == {"meta"}
