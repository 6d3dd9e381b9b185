"""LOMO and AdaLomo by name: steps are those of the authors, who make them inside of `backward`."""

import types

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .frameworks import needed
from .test_parity_authors import SHAPES, STEPS, TOLERANCE, beginning, difference, gradient, values

WITH_ROWS = [(1,), (7,), (5, 3), (3, 5)]  # what has no dimension, or three, fails in AdaLomo
OPTIONS = [{}, {"lr": 0.05, "weight_decay": 0.1}]
CASES = [
    *(("Lomo", SHAPES, own, {}) for own in OPTIONS),
    ("Lomo", SHAPES, {"lr": 0.3, "max_grad_norm": 0.5}, {"lr": 0.3, "clip_grad_norm": 0.5}),
    *(("AdaLomo", WITH_ROWS, own, {}) for own in OPTIONS),
    ("AdaLomo", WITH_ROWS, {"lr": 0.1, "clip_threshold": 0.3, "decay_rate": -0.5}, {}),
    ("AdaLomo", WITH_ROWS, {"lr": 0.1, "eps": (1e-3, 0.5), "weight_decay": 0.1}, {}),
    ("AdaLomo", WITH_ROWS, {"lr": 0.1, "max_grad_norm": 0.5}, {"lr": 0.1, "clip_grad_norm": 0.5}),
]

pytestmark = pytest.mark.usefixtures("in_float64")


@pytest.fixture
def package(monkeypatch):
    """The package of the authors, on a CPU and without its float32."""
    wide = types.SimpleNamespace(**{**vars(torch), "float32": torch.float64})
    for name in ("lomo", "adalomo"):
        monkeypatch.setattr(needed(f"lomo_optim.{name}"), "torch", wide)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    return needed("lomo_optim")


def constant(t):
    return 1.0


def falling(t):
    return 1 / (1 + 0.1 * t)


def slopes(params, t):
    """A loss whose gradients are those of the other tests."""
    return sum((p * gradient(p, t, i)).sum() for i, p in enumerate(params))


def stepped_by_the_package(cls, params, loss, steps, factor, *, lr=1e-3, **options):
    """The parameters after each step, whose learning rate is multiplied by `factor`."""
    opt, found = cls(torch.nn.ParameterList(params), lr, **options), []
    for t in range(steps):
        if "clip_grad_norm" in options:
            opt.grad_norm(loss(params, t))
        opt.fused_backward(loss(params, t), lr * factor(t))
        found.append(values(params))
    return torch.stack(found)


def stepped_by_name(name, params, loss, steps, factor, in_backward, **options):
    opt, found = optim.create(name, params, **options), []
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, factor)
    if in_backward:
        opt.step_in_backward()
    for t in range(steps):
        opt.zero_grad()
        loss(params, t).backward()
        opt.step()
        scheduler.step()
        found.append(values(params))
    return torch.stack(found)


@pytest.mark.parametrize("factor", [constant, falling])
@pytest.mark.parametrize(("name", "shapes", "own", "differing"), CASES, ids=str)
def test_the_steps_are_those_of_the_package(name, shapes, own, differing, factor, package):
    given = differing or own
    params = beginning(shapes)
    theirs = stepped_by_the_package(getattr(package, name), params, slopes, STEPS, factor, **given)
    for in_backward in (False, True)[: 1 + ("max_grad_norm" not in own)]:
        ours = stepped_by_name(
            name.lower(), beginning(shapes), slopes, STEPS, factor, in_backward, **own
        )
        assert difference(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("clip_value", [0.05])
def test_values_are_clipped_by_a_stage_before(clip_value, package):
    theirs = stepped_by_the_package(
        package.Lomo, beginning(), slopes, STEPS, constant, lr=0.3, clip_grad_value=clip_value
    )
    tx, params, found = fo.chain(fo.clip(clip_value), fo.sgdw(0.3)), beginning(), []
    opt = fo.Optimizer(params, tx)
    for t in range(STEPS):
        opt.zero_grad()
        slopes(params, t).backward()
        opt.step()
        found.append(values(params))
    assert difference(torch.stack(found), theirs) <= TOLERANCE


def network(params, t):
    """The loss of a network with a hidden layer, on points that differ from step to step."""
    weight, bias, last = params
    x = torch.cos(torch.arange(24, dtype=weight.dtype).reshape(8, 3) + t)
    return (torch.tanh(x @ weight.T + bias) @ last.T - x.sum(1, keepdim=True)).square().mean()


@pytest.mark.parametrize("name", ["Lomo", "AdaLomo"])
def test_a_network_is_trained_as_by_the_package(name, package):
    """Inside of `backward`, and with the gradients of a layer at most."""
    shapes, options = [(5, 3), (5,), (1, 5)], {"lr": 0.05, "weight_decay": 0.1}
    theirs = stepped_by_the_package(
        getattr(package, name), beginning(shapes), network, 60, falling, **options
    )
    params = beginning(shapes)
    ours = stepped_by_name(name.lower(), params, network, 60, falling, True, **options)
    assert difference(ours, theirs) <= TOLERANCE
    assert all(p.grad is None for p in params)
    assert (ours[-1] - ours[0]).abs().max() > 0.1
