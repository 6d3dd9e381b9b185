"""`sam`: the gradient of a worse place nearby."""

import pickle

import pytest
import torch

import funcopt as fo
from funcopt.errors import HyperparameterError, LabelError

from ..closures import (
    DATA,
    closure_of,
    gap,
    named_parameters,
    network,
    purely,
    regression,
    values,
    wrapped,
)

INNER = fo.sgd(0.02, momentum=0.5, weight_decay=1e-3)


def official(steps, rho, adaptive, eta=0.01):
    """The two steps of the official code of Kwon et al., `asam.py`, which has SAM too."""
    params = named_parameters(network())
    inner = torch.optim.SGD(params.values(), 0.02, momentum=0.5, weight_decay=1e-3, foreach=False)
    for _ in range(steps):
        regression(params).backward()
        with torch.no_grad():
            moved = {}
            for n, p in params.items():
                if adaptive(n):
                    moved[n] = p.abs().add(eta)
                    p.grad.mul_(moved[n])
            norm = torch.stack([p.grad.norm(p=2) for p in params.values()]).norm(p=2) + 1e-16
            for n, p in params.items():
                if adaptive(n):
                    p.grad.mul_(moved[n])
                moved[n] = p.grad * (rho / norm)
                p.add_(moved[n])
            inner.zero_grad()
        regression(params).backward()
        with torch.no_grad():
            for n, p in params.items():
                p.sub_(moved[n])
        inner.step()
        inner.zero_grad()
    return values(params)


@pytest.mark.parametrize(
    ("adaptive", "rho", "scaled"),
    [
        (False, 0.05, lambda n: False),
        (True, 0.5, lambda n: True),
        (r"^[wv]$", 0.5, lambda n: n in "wv"),
        (lambda n, p: p.ndim > 1, 0.1, lambda n: n == "w"),
    ],
)
def test_it_does_what_the_official_code_does(adaptive, rho, scaled):
    tx = fo.sam(INNER, rho, adaptive, eps=1e-16)
    expected = official(200, rho, scaled)
    assert gap(purely(tx, network(), 200)[0], expected) <= 1e-12
    mine, _ = wrapped(lambda ps: fo.Optimizer(ps, tx), network(), 200)
    assert gap(mine, expected) <= 1e-12


def test_the_gradient_is_that_of_the_place_uphill():
    p = torch.tensor([3.0, 4.0])
    seen = []

    def loss(p):
        seen.append(p)
        return 0.5 * p.square().sum()

    tx = fo.sam(fo.scale(-1.0), rho=0.5)
    updates, _ = tx.update(p, tx.init(p), p, value_fn=loss)
    torch.testing.assert_close(updates, -1.1 * p)  # half of a unit beyond a length of 5
    assert len(seen) == 1


def test_one_length_is_measured_over_all_groups_and_each_goes_its_own_way():
    mine = named_parameters(network())
    groups = [
        {"params": [mine["b"]], "rho": 0.2},
        {"params": [mine["v"], mine["w"]], "lr": 0.02},
    ]
    opt = fo.Optimizer(groups, fo.sam(fo.sgd(0.1), 0.05, eps=0.0))
    opt.step(closure_of(opt, mine))
    start = network()
    g = fo.value_and_grad(regression)(start)[1]
    norm = fo.tree.norm(g)
    there = {n: start[n] + (0.2 if n == "b" else 0.05) * g[n] / norm for n in start}
    there = fo.value_and_grad(regression)(there)[1]
    expected = {n: start[n] - (0.1 if n == "b" else 0.02) * there[n] for n in start}
    assert gap(mine, expected) <= 1e-15


def test_a_parameter_without_a_gradient_stays_where_it_is():
    frozen = named_parameters(network())
    frozen["v"].requires_grad_(False)
    opt = fo.Optimizer(list(frozen.values()), fo.sam(fo.sgd(0.1)))
    opt.step(closure_of(opt, frozen))
    assert torch.equal(frozen["v"], network()["v"])
    start, tx = network(), fo.sam(fo.sgd(0.1))
    grads = {**fo.value_and_grad(regression)(start)[1], "v": None}
    updates, _ = tx.update(grads, tx.init(start), start, value_fn=regression)
    assert updates.pop("v") is None
    pure = {n: start[n] + updates[n] for n in updates}
    assert gap({n: frozen[n] for n in pure}, pure) <= 1e-15


def test_a_branch_of_a_partition_moves_its_own_parameters_only():
    tx = fo.partition(
        {"sharp": fo.sam(fo.sgd(0.1), 0.3, eps=0.0), "plain": fo.sgd(0.1)},
        [(r"w", "sharp"), (r"", "plain")],
    )
    mine, _ = wrapped(lambda ps: fo.Optimizer(ps, tx), network(), 1)
    start = network()
    g = fo.value_and_grad(regression)(start)[1]
    there = {**start, "w": start["w"] + 0.3 * g["w"] / g["w"].norm()}
    grads = {**g, "w": fo.value_and_grad(regression)(there)[1]["w"]}
    assert gap(mine, {n: start[n] - 0.1 * grads[n] for n in start}) <= 1e-15
    assert gap(purely(tx, start, 1)[0], mine) <= 1e-15


# Accumulation


def part(i):
    return lambda params: regression(params, DATA[4 * (i % 2) : 4 * (i % 2) + 4])


def test_each_micro_batch_has_its_own_place_and_all_of_them_one_update():
    tx = fo.sam(fo.accumulate(fo.sgd(0.1, momentum=0.9), 2), 0.1, eps=0.0)
    params, state = network(), tx.init(network())
    mine = named_parameters(network())
    opt = fo.Optimizer(list(mine.items()), tx)
    for i in range(10):
        grads = fo.value_and_grad(part(i))(params)[1]
        updates, state = tx.update(grads, state, params, value_fn=part(i))
        params = fo.apply_updates(params, updates)
        opt.step(closure_of(opt, mine, part(i)))
    assert gap(mine, params) <= 1e-14

    expected = named_parameters(network())
    inner = torch.optim.SGD(expected.values(), 0.1, momentum=0.9)
    for step in range(5):
        total = fo.tree.zeros_like(network())
        for i in (2 * step, 2 * step + 1):
            here = values(expected)
            g = fo.value_and_grad(part(i))(here)[1]
            norm = fo.tree.norm(g)
            there = fo.tree.map(lambda p, g, norm=norm: p + 0.1 * g / norm, here, g)
            found = fo.value_and_grad(part(i))(there)[1]
            total = fo.tree.map(torch.add, total, found)
        for n, p in expected.items():
            p.grad = total[n] / 2
        inner.step()
    assert gap(mine, expected) <= 1e-13


def test_outside_of_it_accumulation_is_refused():
    with pytest.raises(HyperparameterError, match=r"last micro-batch only.*sam\(accumulate"):
        fo.accumulate(fo.sam(fo.sgd(0.1)), 2)


def test_what_would_be_lost_is_refused():
    with pytest.raises(HyperparameterError, match="would not be changed by clip"):
        fo.chain(fo.clip(1.0), fo.skip_if(fo.sam(fo.sgd(0.1))))
    fo.chain(fo.monitor(), fo.sam(fo.sgd(0.1)), fo.ema_of_params())
    with pytest.raises(HyperparameterError, match="must not evaluate the loss itself"):
        fo.sam(fo.lbfgs())
    with pytest.raises(LabelError, match="fits none of the parameters"):
        fo.sam(fo.sgd(0.1), adaptive=r"weight").init(network())


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_made_under_autocast_are_taken_as_they_are(dtype):
    def loss(params):
        with torch.autocast("cpu", dtype):
            return regression(params, DATA.float())

    start = fo.tree.cast(network(), torch.float32)
    tx = fo.sam(fo.sgd(0.05))
    mine, _ = wrapped(lambda ps: fo.Optimizer(ps, tx), start, 5, loss)
    assert gap(mine, purely(tx, start, 5, loss)[0]) <= 1e-6
    assert regression(fo.tree.cast(values(mine), torch.float64)) < regression(network())


def test_a_scaled_loss_is_made_whole_in_the_closure():
    """The recipe of `docs/closures.md`: both gradients in the same units, bad ones skipped."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    mine = named_parameters(network())
    tx = fo.sam(fo.skip_if(fo.sgd(0.1, momentum=0.9)))
    opt = fo.Optimizer(list(mine.items()), tx)
    spoil = False

    def closure():
        opt.zero_grad()
        value = regression(mine)
        scaler.scale(value * float("inf") if spoil else value).backward()
        for p in mine.values():
            p.grad.div_(scaler.get_scale())
        return value

    for _ in range(4):
        opt.step(closure)
    assert gap(mine, purely(tx, network(), 4)[0]) <= 1e-13
    before, spoil = values(mine), True
    opt.step(closure)
    assert gap(mine, before) == 0.0
    assert opt.metrics()["skipped"] == 1


# State


def test_it_resumes_bit_by_bit():
    tx = fo.sam(fo.adamw(fo.linear_schedule(0.1, 0.01, 10)), adaptive=True)

    def make(ps):
        return fo.Optimizer(ps, tx)

    straight, _ = wrapped(make, network(), 9)
    first, opt = wrapped(make, network(), 4)
    saved = pickle.loads(pickle.dumps(opt.state_dict()))
    again = named_parameters(values(first))
    other = make(list(again.items()))
    other.load_state_dict(saved)
    for _ in range(5):
        other.step(closure_of(other, again))
    assert gap(again, straight) == 0.0
    assert opt.param_groups[0]["rho"] == 0.05


def test_a_sweep_over_rho_is_a_loop():
    rhos = torch.tensor([0.0, 0.05, 0.5], dtype=torch.float64)

    def run(rho):
        return purely(fo.sam(fo.sgd(0.1), rho), network(), 5)[0]

    together = torch.func.vmap(run)(rhos)
    for i, rho in enumerate(rhos.tolist()):
        assert gap(fo.tree.map(lambda x, i=i: x[i], together), run(rho)) <= 1e-14


def test_the_distance_can_be_learned():
    def after(rho):
        return regression(purely(fo.sam(fo.sgd(0.1), rho), network(), 3)[0])

    rho = torch.tensor(0.3, dtype=torch.float64)
    slope = torch.func.grad(after)(rho)
    difference = (after(rho + 1e-6) - after(rho - 1e-6)) / 2e-6
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-9)
