"""Norms and logs of parameters that lie in parts on several ranks."""

import csv

import pytest
import torch
import torch.distributed as dist

from funcopt import optim

from ..contract.common import model, train
from .test_fsdp import cut_model
from .work import step

NORMS = ("grad_norm", "update_norm", "param_norm")


def adamw(net):
    return optim.AdamW(net.named_parameters(), lr=0.01, max_grad_norm=0.05)


def recorded(steps):
    net = cut_model()
    opt = adamw(net)
    opt.record_norms()
    for _ in range(steps):
        step(net, opt)
    return {key: float(x) for key, x in opt.metrics("layer").items()}


def recorded_alone(steps):
    net = model()
    opt = adamw(net)
    opt.record_norms()
    train(net, opt, steps)
    return {key: float(x) for key, x in opt.metrics("layer").items()}


def test_norms_of_cut_parameters_are_those_of_whole_ones(two):
    first, second = two(recorded, 3)
    assert first == second
    expected = recorded_alone(3)
    assert first.keys() == expected.keys()
    assert {f"{name}/0.weight" for name in NORMS} <= first.keys()
    for key, value in expected.items():
        assert first[key] == pytest.approx(value, rel=1e-9)


def in_a_pipeline(steps):
    """Each rank has a layer of its own."""
    rank = dist.get_rank()
    p = torch.nn.Parameter(torch.full((3,), 1.0 + rank))
    opt = optim.SGD([p], lr=0.1)
    opt.measure_group = dist.group.WORLD
    opt.record_norms()
    for _ in range(steps):
        p.grad = torch.full_like(p, 2.0 + rank)
        opt.step()
    return {key: float(x) for key, x in opt.metrics("layer").items()}


def test_norms_span_the_ranks_that_hold_other_parameters(two):
    first, second = two(in_a_pipeline, 1)
    norm = (3 * 2.0**2 + 3 * 3.0**2) ** 0.5
    assert first["grad_norm"] == second["grad_norm"] == pytest.approx(norm)
    assert first["grad_norm/0"] == pytest.approx(12**0.5)
    assert second["grad_norm/0"] == pytest.approx(27**0.5)


def written(path, steps):
    net = cut_model()
    opt = adamw(net)
    opt.log_to(path)
    for _ in range(steps):
        step(net, opt)


def test_one_rank_writes_the_table(two, tmp_path):
    path = tmp_path / "log.csv"
    two(written, str(path), 3)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    expected = recorded_alone(3)
    assert float(rows[-1]["grad_norm"]) == pytest.approx(expected["grad_norm"], rel=1e-9)
