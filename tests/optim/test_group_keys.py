"""Keys of a parameter group that no step reads, and that were meant to be others."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

import funcopt as fo
from funcopt import optim
from funcopt.optim import _factory
from funcopt.optim._group_keys import NOTES, SYNONYMS, suspicious

ADAMW = ("lr", "betas", "eps", "weight_decay", "amsgrad")


def parameter():
    return torch.nn.Parameter(torch.ones(2))


def stepped(opt, steps=1):
    for _ in range(steps):
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        opt.step()
    return opt


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lrr", "lr"),
        ("rl", "lr"),
        ("LR", None),  # two letters are another
        ("weight_deacy", "weight_decay"),
        ("weigth_decay", "weight_decay"),
        ("beta", "betas"),
        ("ep", "eps"),
        ("wd", "weight_decay"),
        ("learning_rate", "lr"),
        ("b1", "betas"),
        ("beta1", "betas"),
        ("beta_2", "betas"),
        ("epsilon", "eps"),
        ("lr", None),
        ("momentum", None),
        ("id", None),
        ("lx", None),  # half of it
        (3, None),
    ],
)
def test_what_was_meant(key, meant):
    assert suspicious([key], ADAMW) == ([] if meant is None else [(key, meant)])


def test_a_synonym_of_what_is_not_there_means_nothing():
    assert suspicious(["wd", "beta1", "b2"], ["lr", "eps"]) == []


def test_a_live_key_is_itself_however_near_others_are():
    assert suspicious(["beta", "beta2", "betas"], ["beta", "beta2", "betas"]) == []


@pytest.mark.parametrize("key", sorted(NOTES))
def test_notes_of_frameworks_are_left_alone(key):
    live = [
        name
        for case in (optim.AdamW, optim.SGD, optim.Muon, optim.Prodigy)
        for name in case([("w", torch.nn.Parameter(torch.ones(2, 2)))]).param_groups[0]
    ]
    assert suspicious([key], live) == []
    assert key not in SYNONYMS


def test_a_group_is_warned_of_when_it_is_made():
    with pytest.warns(UserWarning, match="^`AdamW`: no step reads `wd` of a parameter group: did "):
        opt = optim.AdamW([{"params": [parameter()], "wd": 0.0}])
    with pytest.warns(UserWarning, match="`beta1` .* mean `betas`") as caught:
        opt.add_param_group({"params": [parameter()], "beta1": 0.5})
    assert [w.filename for w in caught] == [__file__]


def test_a_key_that_is_set_later_is_warned_of_at_the_next_step_once():
    opt = stepped(optim.SGD([parameter()], momentum=0.9))
    opt.param_groups[0]["lrr"] = 1
    with pytest.warns(UserWarning, match="`SGD`: no step reads `lrr` .* mean `lr`") as caught:
        stepped(opt)
    assert [w.filename for w in caught] == [__file__]
    opt.param_groups[0]["momentun"] = 0.8
    with pytest.warns(UserWarning, match="`momentun`") as caught:
        stepped(opt, 3)
    assert len(caught) == 1
    opt.param_groups[0]["note"] = 1
    stepped(opt)  # warnings are errors here


def test_the_keys_of_a_group_are_found_once(monkeypatch):
    """By a walk through the chain, which every check of the group needs."""
    opt = stepped(fo.Optimizer([parameter()], fo.chain(fo.clip(1.0), fo.adamw())))
    known, walks = _factory.hyperparams, []

    def hyperparams(tx, of=None):
        walks.append(of is not None)
        return known(tx, of)

    monkeypatch.setattr(_factory, "hyperparams", hyperparams)
    opt.param_groups[0]["note"] = 1
    stepped(opt)
    assert walks.count(True) == 1
    opt._groups.forget()
    stepped(opt)
    assert walks.count(True) == 2


def test_any_chain_has_its_own_keys():
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(0.1))
    with pytest.warns(UserWarning, match="`max_nrom` .* mean `max_norm`"):
        fo.Optimizer([{"params": [parameter()], "max_nrom": 0.5}], tx)


def test_keys_of_another_branch_are_no_slips():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = [("a.weight", torch.nn.Parameter(torch.ones(2, 2))), ("a.bias", parameter())]
        opt = optim.Muon(named)
        stepped(opt)


def test_a_schedule_is_live_too():
    opt = stepped(optim.SGD([parameter()], lr=fo.constant_schedule(0.1)))
    assert opt.param_groups[0]["lr"] == 0.1


def test_a_loaded_group_is_looked_at_too():
    opt = stepped(optim.SGD([parameter()]))
    saved = opt.state_dict()
    saved["param_groups"][0]["weight_decy"] = 0.1
    other = optim.SGD([parameter()])
    with pytest.warns(UserWarning, match="`weight_decy`"):
        other.load_state_dict(saved)
    stepped(other)


SCHEDULERS = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 0.5),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda step: 0.5),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 1),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [1]),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.5),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt), lr_scheduler.StepLR(opt, 1)], [2]
    ),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 5),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(opt, 1)]),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 0.2, cycle_momentum=True),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 2),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt),
    "SWALR": lambda opt: swa_utils.SWALR(opt, 0.05),
}


def test_all_schedulers_of_torch_are_here():
    assert {*lr_scheduler.__all__, "SWALR"} - {"LRScheduler"} == set(SCHEDULERS)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW, optim.Prodigy], ids=lambda c: c.__name__)
@pytest.mark.filterwarnings("error:.*no step reads", "ignore:The epoch parameter")
def test_no_scheduler_of_torch_is_warned_of(scheduler, cls):
    opt = stepped(cls([parameter()], **({"momentum": 0.9} if cls is optim.SGD else {})))
    made = SCHEDULERS[scheduler](opt)
    for _ in range(3):
        stepped(opt)
        made.step(*([1.0] if scheduler == "ReduceLROnPlateau" else []))


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, v in vars(torch.optim).items()
        if isinstance(v, type) and hasattr(optim, n) and n != "Optimizer"
    ],
)
def test_no_group_of_a_checkpoint_of_torch_is_warned_of(name):
    p = torch.nn.Parameter(torch.ones(2, 2))
    theirs = getattr(torch.optim, name)([p], lr=0.1)
    mine = getattr(optim, name)([("weight", parameter_like(p))], lr=0.1)
    mine.param_groups[0].update(
        {k: v for k, v in theirs.param_groups[0].items() if k not in mine.param_groups[0]}
    )
    if name != "LBFGS":
        stepped(mine)


def parameter_like(p):
    return torch.nn.Parameter(p.detach().clone())
