"""Contract 44: `ZeroRedundancyOptimizer`, where each rank steps its part of the parameters."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

import funcopt as fo

from ..contract.common import copied, loss_of, model
from .work import CLASSES, alone_with, gap, params_of, step

ELEMENTWISE = ["AdamW", "AdamW, narrow", "SGD", "RMSprop", "elementwise", "schedule"]


def cosine(opt):
    return lr_scheduler.CosineAnnealingLR(opt, 10)


def one_cycle_schedule(opt):
    return lr_scheduler.OneCycleLR(opt, 0.05, total_steps=20)


def sharded(params, name, **more):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # warns when it is imported

    cls, options = CLASSES[name]
    return ZeroRedundancyOptimizer(params, optimizer_class=cls, **options, **more)


def trained(name, steps, schedule=None, spans=False):
    net = DistributedDataParallel(model())
    more = {"betas": (0.9, 0.999)} if schedule is one_cycle_schedule else {}
    opt = sharded(net.parameters(), name, **more)
    if spans:
        opt.optim.measure_group = dist.group.WORLD
    scheduler = schedule(opt) if schedule else None
    for _ in range(steps):
        step(net, opt, scheduler)
    own = sum(p.numel() for p in opt.optim.state)
    return params_of(net), own


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_parts_step_as_the_whole(two, name):
    (first, some), (second, others) = two(trained, name, 6)
    assert gap(first, second) == 0.0
    assert gap(first, alone_with(name, 6)) <= 1e-6
    assert some + others == sum(p.numel() for p in first.values())
    assert min(some, others) > 0


@pytest.mark.parametrize(
    ("name", "schedule"), [("AdamW", cosine), ("SGD", cosine), ("AdamW", one_cycle_schedule)]
)
def test_schedulers_reach_every_rank(two, name, schedule):
    (first, _), _ = two(trained, name, 6, schedule)
    assert gap(first, alone_with(name, 6, schedule)) <= 1e-6
    assert gap(first, alone_with(name, 6, schedule, getattr(torch.optim, name))) <= 1e-6
    assert gap(first, alone_with(name, 6)) > 1e-3


def test_a_sum_over_all_parameters_spans_the_ranks_of_a_group(two):
    (first, _), (second, _) = two(trained, "clipped", 6, None, True)
    assert gap(first, second) == 0.0
    assert gap(first, alone_with("clipped", 6)) <= 1e-6


def refused(name):
    net = model()
    opt = sharded(net.parameters(), name)
    try:
        step(net, opt)
    except fo.errors.StructureError as error:
        return str(error)
    return None


def test_without_a_group_a_sum_over_all_parameters_is_refused(two):
    for sentence in two(refused, "clipped"):
        assert "`clip_by_global_norm` sums over all parameters" in sentence
        assert "measure_group" in sentence


def resumed(name):
    net = DistributedDataParallel(model())
    opt = sharded(net.parameters(), name)
    for _ in range(3):
        step(net, opt)
    opt.consolidate_state_dict(to=0)
    saved = [opt.state_dict() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(saved)
    again = DistributedDataParallel(model())
    again.load_state_dict(net.state_dict())
    other = sharded(again.parameters(), name)
    other.load_state_dict(copied(saved[0]))  # on rank 0 it is the state of the first one
    for _ in range(3):
        step(net, opt)
        step(again, other)
    return gap(params_of(net), params_of(again))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_consolidated_state_resumes(two, name):
    assert two(resumed, name) == [0.0, 0.0]


def grown():
    net = DistributedDataParallel(model())
    layers = list(net.module)
    opt = sharded(layers[0].parameters(), "AdamW")
    for t in range(6):
        if t == 3:
            opt.add_param_group({"params": list(layers[2].parameters()), "lr": 0.02})
        step(net, opt)
    return params_of(net)


def test_a_group_may_be_added(two):
    first, second = two(grown)
    assert gap(first, second) == 0.0
    net = model()
    opt = torch.optim.AdamW(net[0].parameters(), lr=0.01)
    for t in range(6):
        if t == 3:
            opt.add_param_group({"params": list(net[2].parameters()), "lr": 0.02})
        net.zero_grad()
        loss_of(net).backward()
        opt.step()
    assert gap(first, params_of(net)) <= 1e-6


def labeled(cls, options):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    try:
        ZeroRedundancyOptimizer(model().parameters(), optimizer_class=cls, **options)
    except fo.errors.StructureError as error:
        return str(error)
    return None


def by_dimension(name, p):
    return "matrices" if p.ndim > 1 else "vectors"


LABELED = {
    "Muon": (fo.optim.Muon, {}),
    "Optimizer": (
        fo.Optimizer,
        {"tx": fo.partition({"matrices": fo.sgd(0.1), "vectors": fo.adamw(0.1)}, by_dimension)},
    ),
}


@pytest.mark.parametrize("name", LABELED)
def test_labels_are_refused_with_the_way_out(two, name):
    for sentence in two(labeled, *LABELED[name]):
        assert f"`{name}`" in sentence
        assert "label" in sentence
        assert "one for each label" in sentence


TX_OF = {
    "matrices": fo.chain(fo.scale_by_muon(), fo.scale_by_learning_rate(0.02)),
    "vectors": fo.adamw(0.01),
}


def one_for_each_label():
    from torch.distributed.optim import ZeroRedundancyOptimizer

    net = DistributedDataParallel(model())
    opts = [
        ZeroRedundancyOptimizer(
            [p for p in net.parameters() if by_dimension("", p) == label],
            optimizer_class=fo.Optimizer,
            tx=tx,
        )
        for label, tx in TX_OF.items()
    ]
    for _ in range(4):
        step_all(net, opts)
    return params_of(net)


def step_all(net, opts):
    for opt in opts:
        opt.zero_grad()
    loss_of(net).backward()
    for opt in opts:
        opt.step()


def test_one_for_each_label_steps_as_a_partition(two):
    first, second = two(one_for_each_label)
    assert gap(first, second) == 0.0
    net = model()
    opt = fo.Optimizer(net.named_parameters(), fo.partition(TX_OF, by_dimension))
    for _ in range(4):
        step_all(net, [opt])
    assert gap(first, params_of(net)) <= 1e-6
