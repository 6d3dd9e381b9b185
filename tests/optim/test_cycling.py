"""Schedulers that cycle momentum: in all groups, or not at all."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def one_cycle(opt, **more):
    return OneCycleLR(opt, [0.1] * len(opt.param_groups), total_steps=9, **more)


def cyclic(opt, **more):
    return CyclicLR(opt, 0.01, 0.1, step_size_up=2, **more)


def by_dimension(**transforms):
    return fo.partition(transforms, lambda name, p: "matrix" if p.ndim == 2 else "rest")


ALIKE = {
    "a chain": lambda: fo.chain(fo.clip_by_global_norm(1.0), fo.sgd(0.02, momentum=0.9)),
    "two of Adam": lambda: by_dimension(matrix=fo.adamw(3e-4), rest=fo.adam(3e-4)),
    "two with momentum": lambda: by_dimension(
        matrix=fo.sgd(0.02, momentum=0.9), rest=fo.rmsprop(momentum=0.9)
    ),
    "a label without parameters": lambda: fo.partition(
        {"all": fo.adamw(), "none": fo.freeze()}, "all"
    ),
}
UNLIKE = {
    "momentum and betas": lambda: by_dimension(matrix=fo.sgd(0.02, momentum=0.9), rest=fo.adamw()),
    "frozen": lambda: by_dimension(matrix=fo.adamw(), rest=fo.freeze()),
    "none": lambda: by_dimension(matrix=fo.sgd(0.1), rest=fo.freeze()),
}
every_scheduler = pytest.mark.parametrize("make", [one_cycle, cyclic])


def cycled(group):
    return {key: group[key] for key in ("lr", "momentum", "betas") if key in group}


def train(model, opt, scheduler, steps=4):
    seen = []
    for _ in range(steps):
        opt.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        opt.step()
        scheduler.step()
        seen.append([cycled(group) for group in opt.param_groups])
    return seen


@every_scheduler
@pytest.mark.parametrize("tx", ALIKE.values(), ids=ALIKE)
def test_what_all_groups_have_is_cycled_in_all(tx, make):
    model = net()
    opt = fo.Optimizer(model.named_parameters(), tx())
    first, second, *_ = train(model, opt, make(opt))
    for before, after in zip(first, second, strict=True):
        assert len(before) == 2
        assert all(before[key] != after[key] for key in before)


@every_scheduler
@pytest.mark.parametrize("tx", UNLIKE.values(), ids=UNLIKE)
def test_what_some_groups_do_not_have_is_torchs_own_error(tx, make):
    model = net()
    opt = fo.Optimizer(model.named_parameters(), tx())
    for each in (opt, copy.deepcopy(opt)):
        with pytest.raises(ValueError, match="must support momentum or beta1"):
            make(each)
    model, opt = net(), None
    opt = fo.Optimizer(model.named_parameters(), tx())
    first, second, *_ = train(model, opt, make(opt, cycle_momentum=False))
    for before, after in zip(first, second, strict=True):
        assert before["lr"] != after["lr"]


def test_a_group_that_joins_later_counts():
    opt = fo.Optimizer(
        [("w", nn.Parameter(torch.ones(2, 2)))], by_dimension(matrix=fo.adamw(), rest=fo.freeze())
    )
    assert "betas" in opt.defaults
    opt.add_param_group({"params": [("b", nn.Parameter(torch.ones(2)))]})
    with pytest.raises(ValueError, match="cycle_momentum"):
        one_cycle(opt)


@every_scheduler
def test_a_class_whose_labels_differ_refuses_the_step(make):
    """Its `momentum` is an argument, so torch finds it, and sets it in the other group too."""
    model = net()
    opt = optim.Muon([(f"blocks.{name}", p) for name, p in model.named_parameters()])
    scheduler = make(opt)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(HyperparameterError, match="cycle_momentum=False"):
        train(model, opt, scheduler)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    model = net()
    opt = optim.Muon([(f"blocks.{name}", p) for name, p in model.named_parameters()])
    train(model, opt, make(opt, cycle_momentum=False))
