"""`monitor`: three numbers, and nothing else."""

import pytest
import torch

import funcopt as fo

PARAMS = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor(4.0)}
GRADS = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(2.0)}


def test_updates_pass_unchanged():
    tx = fo.monitor()
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    assert all(torch.equal(updates[name], g) for name, g in GRADS.items())


def test_an_optimizer_shows_what_was_watched_where_it_stands():
    params = {name: torch.nn.Parameter(p.clone()) for name, p in PARAMS.items()}
    tx = fo.chain(fo.monitor(), fo.scale(-0.5), fo.monitor())
    opt = fo.Optimizer(list(params.items()), tx)
    for name, p in params.items():
        p.grad = GRADS[name].clone()
    opt.step()
    shown = {key: float(value) for key, value in opt.metrics().items()}
    assert shown["update_norm"] == 3.0
    assert shown["update_rms"] == pytest.approx(3.0**0.5)
    assert shown["param_norm"] == 5.0
    assert shown["monitor_2/update_norm"] == 1.5
    assert shown["lr"] == 1.0


def test_a_parameter_without_gradient_is_not_watched():
    tx = fo.chain(fo.monitor(), fo.scale(-1.0))
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = fo.Optimizer([a, b], tx)
    a.grad = torch.ones(2)
    opt.step()
    assert opt.metrics()["param_norm"] == pytest.approx(2.0**0.5)
