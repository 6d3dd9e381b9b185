"""Contract 43: the size of a tensor is that of all of its parts, and each finds it again."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

import funcopt as fo
from funcopt import optim

from ..contract.common import copied, model, train
from .test_fsdp import cut_model
from .work import gap, params_of, step

CHAINS = {
    "clip_by_block_rms": fo.chain(fo.clip_by_block_rms(1e-3), fo.sgd(1.0)),
    "clip_by_block_norm": fo.chain(fo.clip_by_block_norm(1e-2), fo.sgd(1.0)),
    "normalize_by_update_norm": fo.chain(fo.normalize_by_update_norm(), fo.sgd(0.1)),
    "project_onto_l2_ball": fo.chain(fo.sgd(0.1), fo.project_onto_l2_ball(0.3)),
    "project_onto_simplex": fo.chain(fo.sgd(0.1), fo.project_onto_simplex(2.0)),
    "centralize": fo.chain(fo.centralize(), fo.sgd(0.1)),
    "scale_by_param_block_norm": fo.chain(fo.scale_by_param_block_norm(), fo.sgd(0.1)),
    "keep_norm": fo.chain(fo.adam(0.1), fo.keep_norm()),
    "row_trust_ratio": fo.chain(fo.scale_by_row_trust_ratio(max_ratio=2.0), fo.sgd(0.1)),
    "rate_and_decay": fo.chain(
        fo.add_decay_towards_init(0.1), fo.scale_by_learning_rate_and_decay(0.1, 0.1)
    ),
    "adaptive_grad_clip": fo.chain(fo.adaptive_grad_clip(0.01), fo.sgd(0.1, momentum=0.9)),
    "Optax's adafactor": fo.chain(
        fo.scale_by_factored_rms(eps=1e-30, add_eps=True, min_dim_size_to_factor=2),
        fo.clip_by_block_rms(1.0),
        fo.scale_by_learning_rate(0.01),
    ),
    "trust ratio of matrices": fo.chain(
        fo.masked(fo.scale_by_trust_ratio(eps=1e-3), lambda name, p: p.ndim > 1), fo.sgd(0.01)
    ),
}
MAKE = {
    "ASGD": lambda net: optim.ASGD(net.parameters(), lr=0.1, t0=1),
    "Rprop": lambda net: optim.Rprop(net.parameters(), lr=0.01),
    "Adafactor": lambda net: optim.Adafactor(net.parameters(), weight_decay=0.1),
    "AdaBelief": lambda net: optim.AdaBelief(net.parameters(), lr=0.01),
    "Yogi": lambda net: optim.Yogi(net.parameters(), lr=0.01),
    "ADOPT": lambda net: optim.ADOPT(net.parameters(), lr=0.01),
    "Adan": lambda net: optim.Adan(net.parameters(), lr=0.01),
    "Ranger": lambda net: optim.Ranger(net.parameters(), lr=0.01, sync_period=2),
    "StableAdamW": lambda net: optim.StableAdamW(net.parameters(), lr=0.01, weight_decay=0.1),
    "LAMB": lambda net: optim.LAMB(net.parameters(), lr=0.01, weight_decay=0.1),
    "LARS": lambda net: optim.LARS(net.parameters(), weight_decay=0.1),
    **{
        name: lambda net, tx=tx: fo.Optimizer(net.named_parameters(), tx)
        for name, tx in CHAINS.items()
    },
}
every = pytest.mark.parametrize("name", MAKE)


def trained(name, steps, cut):
    net = cut_model() if cut else model()
    opt = MAKE[name](net)
    for _ in range(steps):
        step(net, opt) if cut else train(net, opt, 1)
    return params_of(net)


@every
def test_cut_parameters_step_as_whole_ones(two, name):
    first, second = two(trained, name, 6, True)
    assert gap(first, second) == 0.0
    assert gap(first, trained(name, 6, False)) <= 1e-12


def resumed(name, cut):
    """How far training that was saved, loaded and continued is from training that was not."""
    net = cut_model() if cut else model()
    again = cut_model() if cut else model()
    opt, other = MAKE[name](net), MAKE[name](again)
    go = step if cut else (lambda net, opt: train(net, opt, 1))
    for _ in range(3):
        go(net, opt)
    again.load_state_dict(net.state_dict())
    other.load_state_dict(copied(opt.state_dict()))
    for _ in range(3):
        go(net, opt)
        go(again, other)
    return gap(params_of(net), params_of(again))


@every
def test_a_state_resumes_to_the_bit(two, name):
    assert two(resumed, name, True) == [0.0, 0.0]
    assert resumed(name, False) == 0.0


@every
def test_a_state_is_plain_tensors_to_torch(name, tmp_path):
    net = model()
    opt = MAKE[name](net)
    train(net, opt, 2)
    torch.save(opt.state_dict(), tmp_path / "state")
    other = MAKE[name](model())
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for p, q in zip(net.parameters(), other.param_groups[0]["params"], strict=True):
        for key, value in opt.state[p].items():
            assert torch.equal(other.state[q][key], value), key


def round_trip(name, full):
    """The same by way of `torch.distributed.checkpoint`, which asks a fresh optimizer."""
    options = StateDictOptions(full_state_dict=full)
    net, again = cut_model(), cut_model()
    opt, other = MAKE[name](net), MAKE[name](again)
    for _ in range(3):
        step(net, opt)
    opt.zero_grad()
    of_net, of_opt = get_state_dict(net, opt, options=options)
    set_state_dict(again, other, model_state_dict=of_net, optim_state_dict=of_opt, options=options)
    for _ in range(3):
        step(net, opt)
        step(again, other)
    return gap(params_of(net), params_of(again))


@pytest.mark.parametrize("full", [False, True], ids=["parts", "full"])
@pytest.mark.parametrize("name", ["ASGD", "Rprop", "Adafactor", "Optax's adafactor"])
def test_a_state_makes_the_round_trip(two, name, full):
    assert two(round_trip, name, full) == [0.0, 0.0]


def saved(name, folder):
    net = cut_model()
    opt = MAKE[name](net)
    for _ in range(3):
        step(net, opt)
    opt.zero_grad()
    of_net, of_opt = get_state_dict(net, opt)
    dcp.save({"net": of_net, "opt": of_opt}, checkpoint_id=folder)
    for _ in range(3):
        step(net, opt)
    return params_of(net)


@pytest.mark.parametrize("name", ["ASGD", "Rprop", "Adafactor", "Optax's adafactor"])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_one_process_loads_what_two_ranks_saved(two, name, tmp_path):
    first, _ = two(saved, name, tmp_path)
    net = model()
    opt = MAKE[name](net)
    of_net, of_opt = get_state_dict(net, opt)
    dcp.load({"net": of_net, "opt": of_opt}, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(net, opt, model_state_dict=of_net, optim_state_dict=of_opt)
    for _ in range(3):
        train(net, opt, 1)
    assert gap(first, params_of(net)) <= 1e-12


def planned(name):
    """Bytes of the state as planned and as made, on this rank."""
    net = cut_model()
    opt = MAKE[name](net)
    plan = fo.explain(opt).memory
    opt.init_state()
    stored = [x for own in opt.state.values() for x in own.values()]
    parts = [getattr(x, "_local_tensor", x) for x in stored]
    of_params = sum(p.to_local().numel() * p.itemsize for p in net.parameters())
    tx = fo.explain(opt.tx, net).memory
    slots = [sum(x.bytes for x in one.entries if x.entries is not None) for one in (plan, tx)]
    return (
        plan.state,
        sum(x.numel() * x.element_size() for x in parts),
        plan.parameters,
        of_params,
        slots,
    )


@pytest.mark.parametrize("name", ["AdaBelief", "Adafactor", "LARS"])
def test_memory_is_planned_for_the_part_on_this_rank(two, name):
    sizes = []
    for state, made, parameters, of_params, (slots, slots_of_tx) in two(planned, name):
        assert state == made
        assert parameters == of_params
        assert slots == slots_of_tx
        sizes.append(parameters)
    assert sum(sizes) == sum(p.numel() * p.itemsize for p in model().parameters())
    assert sizes[0] != sizes[1]
