"""Contract E: what distributed training asks for, as far as one process can tell.

`tests/distributed` goes on with two processes.
"""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

import funcopt as fo
from funcopt import optim

from .common import (
    OPTIMIZERS,
    adamw,
    assert_same_state,
    every_kind,
    every_optimizer,
    gap,
    loss_of,
    model,
    parameter,
    sgd,
    train,
    values,
)

MODES = {
    "plain": {},
    "flattened": {"flatten_optimizer_state_dict": True},
    "full": {"full_state_dict": True},
    "on the CPU": {"full_state_dict": True, "cpu_offload": True},
}
"""Full and flattened at once fails in torch, whatever the optimizer."""

every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@every_optimizer
@every_mode
def test_asking_a_fresh_optimizer_for_its_state_changes_nothing(make, mode):
    """Contract 41: the probing step initialises, and no more."""
    net, plain = model(), model()
    opt, expected = make(net), make(plain)
    before = values(net)
    groups = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    saved = get_optimizer_state_dict(net, opt, options=StateDictOptions(**mode))
    assert saved
    assert gap(net, before) == 0.0
    assert all(stored["step"] == 0 for stored in opt.state.values())
    assert groups == [
        {k: v for k, v in group.items() if k != "params"} for group in opt.param_groups
    ]
    train(net, opt, 5)
    train(plain, expected, 5)
    assert gap(net, plain) == 0.0


@pytest.mark.parametrize(
    "tx",
    [
        fo.chain(fo.add_decayed_weights(0.5), fo.scale(-0.1)),
        fo.chain(fo.adamw(0.1), fo.ema_of_params(0.5)),
        fo.chain(fo.scale_by_adam(), fo.scale_by_learning_rate(fo.constant_schedule(0.1))),
        fo.accumulate(fo.adamw(0.1), 2),
    ],
    ids=repr,
)
def test_a_chain_whose_rate_nobody_can_set_is_probed_without_harm(tx):
    """Contract 41: decay and averages go by other numbers than `lr`."""
    net, plain = model(), model()
    opt, expected = fo.Optimizer(net.parameters(), tx), fo.Optimizer(plain.parameters(), tx)
    get_optimizer_state_dict(net, opt)
    assert gap(net, plain) == 0.0
    train(net, opt, 5)
    train(plain, expected, 5)
    assert gap(net, plain) == 0.0


@every_optimizer
@every_mode
def test_a_state_makes_the_round_trip(make, mode):
    """Contract 42: into a fresh optimizer of a fresh model; the next steps are equal to the bit."""
    if make is OPTIMIZERS["SGD without momentum"]:
        mode = {k: v for k, v in mode.items() if k != "full_state_dict"}
    net = model()
    opt = make(net)
    train(net, opt, 4)
    opt.zero_grad()
    options = StateDictOptions(**mode)
    of_model, of_opt = get_state_dict(net, opt, options=options)
    again = model()
    other = make(again)
    set_state_dict(
        again, other, model_state_dict=of_model, optim_state_dict=of_opt, options=options
    )
    assert_same_state(opt.state_dict()["state"], other.state_dict()["state"])
    train(net, opt, 4)
    train(again, other, 4)
    assert gap(net, again) == 0.0


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@every_optimizer
@pytest.mark.parametrize("flat", [False, True])
def test_a_checkpoint_is_saved_and_loaded_in_place(make, flat, tmp_path):
    """Contract 42: `dcp.save`, and `dcp.load` into the tensors of a fresh optimizer."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    net = model()
    opt = make(net)
    train(net, opt, 4)
    opt.zero_grad()
    of_model, of_opt = get_state_dict(net, opt, options=options)
    dcp.save({"net": of_model, "opt": of_opt}, checkpoint_id=tmp_path, no_dist=True)
    again = model()
    other = make(again)
    of_model, of_opt = get_state_dict(again, other, options=options)
    dcp.load({"net": of_model, "opt": of_opt}, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(
        again, other, model_state_dict=of_model, optim_state_dict=of_opt, options=options
    )
    assert_same_state(opt.state_dict()["state"], other.state_dict()["state"])
    train(net, opt, 4)
    train(again, other, 4)
    assert gap(net, again) == 0.0


@pytest.mark.parametrize("name", ["AdamW", "Adam", "RMSprop", "Adagrad", "Adadelta"])
def test_a_flattened_state_of_torchs_class_loads(name):
    """Contract 40, 42: every key of our groups stands in those of torch's class."""
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    net, again = model(), model()
    opt, other = getattr(torch.optim, name)(net.parameters()), getattr(optim, name)
    train(net, opt, 3)
    opt.zero_grad()
    saved = get_optimizer_state_dict(net, opt, options=options)
    again.load_state_dict(net.state_dict())
    other = other(again.parameters(), lr=0.5)
    set_optimizer_state_dict(again, other, saved, options=options)
    train(net, opt, 5)
    train(again, other, 5)
    assert gap(net, again) <= 1e-12


@every_kind
def test_groups_go_through_by_name(kind):
    """Contract 42: hyperparameters of each group, changed by a scheduler, come back."""

    def groups(net):
        return [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.5}]

    net, again = model(), model()
    opt, other = kind.make(groups(net)), kind.make(groups(again))
    train(net, opt, 2)
    opt.param_groups[0]["lr"] = 0.125
    opt.zero_grad()
    set_optimizer_state_dict(again, other, get_optimizer_state_dict(net, opt))
    assert [group["lr"] for group in other.param_groups] == [0.125, 0.5]


@every_optimizer
def test_entries_written_into_the_state_from_outside_count(make):
    """Contract 44: ZeRO loads so, entry by entry, without `load_state_dict`."""
    net = model()
    opt = make(net)
    train(net, opt, 3)
    again = model()
    again.load_state_dict(net.state_dict())
    other = make(again)
    twin = dict(zip(net.parameters(), again.parameters(), strict=True))
    for p, stored in opt.state.items():
        for key, value in stored.items():
            other.state[twin[p]][key] = value.clone()
    for group, theirs in zip(other.param_groups, opt.param_groups, strict=True):
        for key, value in theirs.items():
            if key != "params":
                group[key] = value
    train(net, opt, 3)
    train(again, other, 3)
    assert gap(net, again) == 0.0


@pytest.mark.parametrize("make", [adamw, sgd, lambda ps: optim.RMSprop(ps, momentum=0.9)])
def test_one_optimizer_for_each_parameter_is_one_for_all(make):
    """Contract 46: of chains without sums over tensors."""
    net, again = model(), model()
    whole, parts = make(net.parameters()), [make([p]) for p in again.parameters()]
    train(net, whole, 5)
    for _ in range(5):
        again.zero_grad()
        loss_of(again).backward()
        for opt in parts:
            opt.step()
    assert gap(net, again) == 0.0


@pytest.mark.filterwarnings("ignore:`torch.jit.[a-z]*` is deprecated")
@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD])
def test_steps_may_be_taken_within_backward(cls):
    """Contract 46."""
    from torch.distributed.optim import _apply_optimizer_in_backward

    net, again = model(), model()
    opt = cls(net.parameters(), lr=0.01)
    _apply_optimizer_in_backward(cls, again.parameters(), {"lr": 0.01})
    for _ in range(4):
        train(net, opt, 1)
        loss_of(again).backward()
    assert gap(net, again) == 0.0


def test_a_sum_over_tensors_sees_those_of_its_optimizer_alone():
    """Contract 46: what the documentation says of clipping by a global norm."""
    together, apart = [parameter(3), parameter(3)], [parameter(3), parameter(3)]
    tx = fo.chain(fo.clip_by_global_norm(0.1), fo.sgd(1.0))
    fo.Optimizer(together, tx).step()
    for p in apart:
        fo.Optimizer([p], tx).step()
    moved = [(p - q).norm() for p, q in zip(together, apart, strict=True)]
    assert all(gap > 0.01 for gap in moved)
