"""Every engine is as near to the numbers of float64 as float32 can be."""

import pytest
import torch

import funcopt as fo

CHAINS = {
    "adadelta": fo.adadelta(1.0),
    "adagrad": fo.adagrad(0.1),
    "adamax": fo.adamax(0.01),
    "adamw": fo.adamw(0.01),
    "clip": fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.01)),
    "lamb": fo.lamb(0.01),
    "lion": fo.lion(0.001),
    "nadam": fo.nadam(0.01),
    "radam": fo.radam(0.01),
    "rmsprop": fo.rmsprop(0.01),
    "sgd": fo.sgd(0.1, 0.9),
}
STEPS = 6
ULPS = 2.0  # after all steps, of the largest parameter; torch's own AdamW is 2.2 away


def begun():
    torch.manual_seed(0)
    params = [torch.randn(300, 7), torch.randn(50)]
    return params, [[torch.randn_like(p) for p in params] for _ in range(STEPS)]


def pure(tx, dtype):
    params, grads = begun()
    params = [p.to(dtype) for p in params]
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update([x.to(dtype) for x in g], state, params)
        params = fo.apply_updates(params, updates)
    return params


def by(engine, tx):
    params, grads = begun()
    params = [torch.nn.Parameter(p) for p in params]
    opt = fo.Optimizer(params, tx, engine=engine)
    for g in grads:
        for p, x in zip(params, g, strict=True):
            p.grad = x.clone()
        opt.step()
    assert opt.engine == engine
    return [p.detach() for p in params]


@pytest.mark.parametrize("engine", ["pure", "eager", "foreach", "fused"])
@pytest.mark.parametrize("name", CHAINS)
def test_float32_is_two_units_in_the_last_place_from_float64(name, engine):
    tx = CHAINS[name]
    exact = pure(tx, torch.float64)
    found = pure(tx, torch.float32) if engine == "pure" else by(engine, tx)
    unit = torch.finfo(torch.float32).eps * max(p.abs().max() for p in exact)
    assert all((x - y).abs().max() <= ULPS * unit for x, y in zip(found, exact, strict=True))


def test_machine_code_is_too(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "native")
    test_float32_is_two_units_in_the_last_place_from_float64("adamw", "fused")
