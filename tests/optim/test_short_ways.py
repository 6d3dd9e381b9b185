"""`max_grad_norm`, `ema` and `accumulate` of every class, and the chain that they make."""

import copy
import inspect
import pickle
import re

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import ArgumentError, HyperparameterError
from funcopt.optim._alias import AliasOptimizer

from ..contract.common import assert_same_state, backward, gap, model, train

WAYS = {"max_grad_norm": 0.05, "ema": 0.9, "accumulate": 2}
CLASSES = {
    name: cls
    for name, cls in vars(optim).items()
    if inspect.isclass(cls) and issubclass(cls, AliasOptimizer)
}
WITH_CLOSURE = {"LBFGS"}
WITH_AVERAGE = {"ASGD", "SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree", "Ranger"}


def averages(net, opt):
    with opt.averaged():
        return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - WITH_CLOSURE))
def test_they_make_the_documented_chain(name):
    ways = {k: v for k, v in WAYS.items() if not (k == "ema" and name in WITH_AVERAGE)}
    plain = CLASSES[name](model().named_parameters())
    around = plain.tx if "ema" not in ways else fo.chain(plain.tx, fo.ema_of_params(0.9))
    expected = fo.accumulate(fo.chain(fo.clip_by_global_norm(0.05), around), 2)
    nets = model(), model()
    short = CLASSES[name](nets[0].named_parameters(), **ways)
    long = fo.Optimizer(nets[1].named_parameters(), expected)
    assert short.tx == long.tx
    for net, opt in zip(nets, (short, long), strict=True):
        train(net, opt, 12)  # RAdam without a schedule waits for its variance
    assert gap(*nets) == 0.0
    assert gap(nets[0], model()) > 0.0
    if "ema" in ways:
        each = zip(averages(nets[0], short), averages(nets[1], long), strict=True)
        assert all(torch.equal(a, b) for a, b in each)


@pytest.mark.parametrize("name", sorted(WITH_AVERAGE))
def test_there_is_one_average(name):
    with pytest.raises(
        HyperparameterError, match=f"`{name}`.*`ema` is a second average of the weights"
    ):
        CLASSES[name](model().parameters(), ema=0.9)


@pytest.mark.parametrize("way", ["max_grad_norm", "accumulate"])
def test_what_evaluates_the_loss_itself_says_what_to_do(way):
    with pytest.raises(
        HyperparameterError, match=f"`LBFGS`.*`{way}` has no effect on the gradients of a loss"
    ):
        optim.LBFGS(model().parameters(), **{way: 2})


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        ("max_grad_norm", -1.0, "`max_grad_norm` must be positive"),
        ("ema", 1.5, r"`ema` must lie in \[0, 1\)"),
        ("accumulate", 0, "`accumulate` must be a whole number"),
    ],
)
def test_a_value_out_of_range_is_named_as_it_was_given(way, value, said):
    with pytest.raises(HyperparameterError, match=f"`AdamW`, in .*{said}"):
        optim.AdamW(model().parameters(), **{way: value})


def test_without_them_nothing_differs():
    net = model()
    plain, none = (optim.AdamW(net.parameters(), **ways) for ways in ({}, dict.fromkeys(WAYS)))
    assert none.tx == plain.tx == fo.adamw()
    assert none.defaults == plain.defaults
    assert none.param_groups[0].keys() == plain.param_groups[0].keys()
    assert not WAYS.keys() & plain.param_groups[0].keys()


def test_they_are_live_in_the_groups():
    nets = model(), model()
    one = optim.AdamW(nets[0].parameters(), lr=0.1, max_grad_norm=5.0, ema=0.5)
    group = one.param_groups[0]
    assert (group["max_grad_norm"], group["ema"]) == (5.0, 0.5)
    group["max_grad_norm"], group["ema"] = 0.05, 0.9
    train(nets[0], one, 3)
    other = optim.AdamW(nets[1].parameters(), lr=0.1, max_grad_norm=0.05, ema=0.9)
    train(nets[1], other, 3)
    assert gap(*nets) == 0.0
    assert all(map(torch.equal, averages(nets[0], one), averages(nets[1], other)))
    group["max_grad_norm"] = 0.0
    with pytest.raises(HyperparameterError, match="`max_grad_norm` must be positive"):
        train(nets[0], one, 1)


def test_a_norm_spans_groups_and_groups_may_differ():
    net = model()
    first, *rest = net.parameters()
    groups = [{"params": [first], "max_grad_norm": 1e-3}, {"params": rest}]
    opt = optim.SGD(groups, lr=1.0, max_grad_norm=1e6)
    backward(net, opt)
    grads = [p.grad.clone() for p in net.parameters()]
    before = [p.detach().clone() for p in net.parameters()]
    opt.step()
    moved = [b - p.detach() for b, p in zip(before, net.parameters(), strict=True)]
    norm = torch.cat([g.flatten() for g in grads]).norm()
    torch.testing.assert_close(moved[0], grads[0] * 1e-3 / (norm + 1e-6))
    torch.testing.assert_close(moved[1:], grads[1:])


def test_a_group_cannot_bring_one_that_the_class_has_not():
    net = model()
    wrong = {"params": list(net.parameters()), "max_grad_norm": 1.0}
    with pytest.raises(HyperparameterError, match=r"`max_grad_norm` of a parameter group is 1\.0"):
        optim.AdamW([wrong])
    opt = optim.AdamW(net.parameters())
    added = {"params": [torch.nn.Parameter(torch.ones(2))], "ema": 0.5}
    with pytest.raises(HyperparameterError, match="give it to the class too"):
        opt.add_param_group(added)
    assert len(opt.param_groups) == 1
    with pytest.raises(HyperparameterError, match="no key of a group"):
        optim.AdamW(
            [{"params": [torch.nn.Parameter(torch.ones(2))], "accumulate": 3}], accumulate=2
        )


def test_groups_that_are_added_have_them():
    opt = optim.AdamW(model().parameters(), max_grad_norm=0.5, ema=0.9, accumulate=2)
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "max_grad_norm": 0.25})
    assert [group["max_grad_norm"] for group in opt.param_groups] == [0.5, 0.25]
    assert opt.param_groups[1]["ema"] == 0.9
    assert not any("accumulate" in group for group in opt.param_groups)


def test_a_schedule_inside_counts_updates_and_a_scheduler_sets_the_rate():
    net = model()
    opt = optim.AdamW(net.parameters(), lr=fo.linear_schedule(1.0, 0.0, 10), **WAYS)
    train(net, opt, 6)
    assert opt.param_groups[0]["lr"] == pytest.approx(0.7)
    opt = optim.AdamW(net.parameters(), lr=0.1, **WAYS)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    train(net, opt, 2)
    scheduler.step()
    train(net, opt, 2)
    assert float(opt.metrics()["lr"]) == pytest.approx(0.01)


def test_copies_and_checkpoints_go_on_to_the_bit():
    net = model()
    opt = optim.AdamW(net.parameters(), lr=0.01, **WAYS)
    train(net, opt, 5)
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert other.tx == opt.tx
        assert_same_state(other.state_dict(), opt.state_dict())
    again = model()
    again.load_state_dict(net.state_dict())
    resumed = optim.AdamW(again.parameters(), lr=0.5, **WAYS)
    resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
    train(net, opt, 5)
    train(again, resumed, 5)
    assert gap(net, again) == 0.0
    assert all(map(torch.equal, averages(net, opt), averages(again, resumed)))


def test_it_prints_its_chain():
    shown = repr(optim.AdamW(model().parameters(), **WAYS))
    stages = "scale_by_adam, add_decayed_weights, scale_by_learning_rate"
    assert f"accumulate(chain(clip_by_global_norm, {stages}, ema_of_params))" in shown
    assert "max_grad_norm: 0.05" in shown


def averaging(lr: fo.Scalar = 0.1, ema: fo.Scalar = 0.5):
    return fo.chain(fo.ema(ema), fo.scale_by_learning_rate(lr))


def test_an_argument_of_the_function_is_its_own():
    opt = optim.optimizer_class("Averaging", averaging)(model().parameters(), max_grad_norm=1.0)
    assert opt.param_groups[0]["ema"] == 0.5
    assert opt.tx == fo.chain(fo.clip_by_global_norm(1.0), averaging())


NAMES = {
    "max_grad_norm": (
        "max_norm clip_grad clip_grad_norm clip_grad_norm_ grad_clip gradient_clip "
        "gradient_clip_val global_clipnorm clip clip_norm max_gradient_norm"
    ),
    "accumulate": (
        "accumulation_steps gradient_accumulation_steps accumulate_grad_batches accum_steps "
        "grad_accum grad_accum_steps"
    ),
    "ema=": "ema_decay use_ema ema_momentum ema_rate model_ema model_ema_decay",
}


@pytest.mark.parametrize("cls", sorted(CLASSES.keys() - {"LBFGS"}))
def test_other_names_of_it_lead_there(cls):
    for ours, names in NAMES.items():
        for name in names.split():
            with pytest.raises(ArgumentError, match=f"`{name}` is .*: here `{ours}"):
                CLASSES[cls](model().named_parameters(), **{name: 1})


STAGES = {
    "max_grad_norm": "`fo.clip_by_global_norm(max_norm)`, the first stage of a chain",
    "grad_clip": "`fo.clip_by_global_norm(max_norm)`, the first stage of a chain",
    "ema": "`fo.ema_of_params(decay)`, the last stage of a chain",
    "use_ema": "`fo.ema_of_params(decay)`, the last stage of a chain",
    "accumulate": "`fo.accumulate(tx, steps)` around the chain",
    "accumulation_steps": "`fo.accumulate(tx, steps)` around the chain",
}


@pytest.mark.parametrize("name", STAGES)
def test_a_chain_has_the_stage_instead(name):
    match = f"unknown argument `{name}`. `{name}` is .*: here {re.escape(STAGES[name])}"
    with pytest.raises(ArgumentError, match=match):
        fo.adamw(**{name: 1})
    with pytest.raises(ArgumentError, match=match):
        fo.Optimizer(model().parameters(), fo.adamw(), **{name: 1})


# One name in the parameter groups of all classes.


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - WITH_CLOSURE))
def test_groups_of_all_classes_have_the_same_keys(name):
    ways = {k: v for k, v in WAYS.items() if not (k == "ema" and name in WITH_AVERAGE)}
    opt = CLASSES[name](model().named_parameters(), **ways)
    for group in opt.param_groups:
        assert group["max_grad_norm"] == 0.05
        assert group.get("ema") == ways.get("ema")
        assert not {"max_norm", "decay", "accumulate"} & group.keys()


def muon(net, **ways):
    return optim.Muon(net.named_parameters(), lr=0.1, labels=by_dimension, **ways)


def by_dimension(name, p):
    return "muon" if p.ndim > 1 else "adamw"


def test_they_are_live_in_the_groups_of_labels():
    nets = model(), model()
    one = muon(nets[0], max_grad_norm=5.0, ema=0.5)
    for group in one.param_groups:
        group["max_grad_norm"], group["ema"] = 0.05, 0.9
    train(nets[0], one, 3)
    other = muon(nets[1], max_grad_norm=0.05, ema=0.9)
    train(nets[1], other, 3)
    assert gap(*nets) == 0.0
    assert all(map(torch.equal, averages(nets[0], one), averages(nets[1], other)))
    one.param_groups[1]["max_grad_norm"] = 0.0
    with pytest.raises(HyperparameterError, match=r"`Muon`.*`max_grad_norm` must be positive"):
        train(nets[0], one, 1)


def test_a_schedule_of_them_works_with_labels():
    net = model()
    falling = fo.linear_schedule(1.0, 0.5, 4)
    opt = muon(net, max_grad_norm=falling, accumulate=2)
    train(net, opt, 4)
    assert [group["max_grad_norm"] for group in opt.param_groups] == [0.75, 0.75]


def test_a_checkpoint_with_the_keys_of_before_loads():
    ways = {"max_grad_norm": 0.05, "ema": 0.9, "accumulate": 2}
    net, again = model(), model()
    opt = muon(net, **ways)
    for i, group in enumerate(opt.param_groups):
        group["max_grad_norm"], group["ema"] = 0.04 + i, 0.7
    train(net, opt, 5)
    saved = copy.deepcopy(opt.state_dict())
    for group in saved["param_groups"]:
        group["max_norm"], group["decay"] = group.pop("max_grad_norm"), group.pop("ema")
    resumed = muon(again, **ways)
    before = copy.deepcopy(saved)
    resumed.load_state_dict(saved)
    assert saved["param_groups"] == before["param_groups"]
    for old, new in zip(opt.param_groups, resumed.param_groups, strict=True):
        assert new.keys() == old.keys()
        assert (new["max_grad_norm"], new["ema"]) == (old["max_grad_norm"], old["ema"])
    again.load_state_dict(net.state_dict())
    train(net, opt, 5)
    train(again, resumed, 5)
    assert gap(net, again) == 0.0


def test_a_group_may_say_it_by_the_name_of_the_stage():
    net = model()
    groups = [{"params": list(net.named_parameters()), "max_norm": 0.5}]
    opt = optim.Muon(groups, labels=by_dimension, max_grad_norm=1.0)
    assert [group["max_grad_norm"] for group in opt.param_groups] == [0.5, 0.5]
    opt.param_groups[0]["max_norm"] = 0.25
    with pytest.raises(HyperparameterError, match="is called `max_grad_norm` there"):
        train(net, opt, 1)


def test_explain_shows_what_a_stage_reads():
    net = model()
    opt = muon(net, dims="flatten", **WAYS)
    torch.optim.lr_scheduler.StepLR(opt, 1)
    opt.param_groups[0]["note"] = 3
    said = str(fo.explain(opt)).split("group ")
    of = {part.split('"')[1]: part for part in said[1:] if '"' in part}
    for key in ("ns_steps=5", "dims='flatten'", "nesterov=True", "momentum=0.95"):
        assert key in of["muon"]
        assert key not in of["adamw"]
    for part in of.values():
        assert "max_grad_norm=0.05" in part
        assert "ema=0.9" in part
        assert not re.search("train_mode|initial_lr|note", part)
    opt.eval()
    assert "train_mode=False" in str(fo.explain(opt))
