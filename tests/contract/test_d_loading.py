"""Contract D: `state_dict`, `load_state_dict`, copies."""

import copy
import functools
import inspect
import io
import pickle

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .common import (
    KINDS,
    OPTIMIZERS,
    assert_same_state,
    copied,
    every_kind,
    every_optimizer,
    gap,
    model,
    parameter,
    train,
    values,
)


def saved_and_loaded(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_optimizer
def test_the_format_is_that_of_torch(make):
    """Contract 31."""
    net = model()
    opt = make(net)
    train(net, opt, 2)
    saved = opt.state_dict()
    assert {"state", "param_groups"} <= saved.keys()
    numbers = [at for group in saved["param_groups"] for at in group["params"]]
    assert numbers == list(range(4))
    assert set(saved["state"]) == set(numbers)
    assert all(type(entry) is dict for entry in saved["state"].values())


@every_optimizer
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resuming_is_to_the_bit_as_if_never_stopped(make, stop):
    """Contract 32: through a file."""
    net = model()
    opt = make(net)
    train(net, opt, stop)
    saved = saved_and_loaded({"net": net.state_dict(), "opt": opt.state_dict()})
    train(net, opt, 7)
    again = model()
    other = make(again)
    again.load_state_dict(saved["net"])
    other.load_state_dict(saved["opt"])
    train(again, other, 7)
    assert gap(net, again) == 0.0
    assert_same_state(opt.state_dict(), other.state_dict())


@pytest.mark.parametrize("value", [1, 2.5, "all", None, (1, 2), torch.ones(2), torch.bfloat16])
def test_groups_carry_values_through_a_file(value):
    """Contract 32."""
    p = parameter(2)
    opt = optim.AdamW([{"params": [p], "tag": value}])
    opt.step()
    other = optim.AdamW([parameter(2)])
    other.load_state_dict(saved_and_loaded(opt.state_dict()))
    loaded = other.param_groups[0]["tag"]
    assert torch.equal(loaded, value) if isinstance(value, torch.Tensor) else loaded == value


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("state_dtype", [None, *DTYPES], ids=str)
def test_loading_keeps_every_dtype_of_creation(dtype, state_dtype):
    """Contract 33: slots, integers and clocks, to the bit."""
    tx = fo.skip_if(
        fo.chain(
            fo.scale_by_adam(state_dtype=state_dtype),
            fo.scale(-0.01),
            fo.ema_of_params(0.9, state_dtype=state_dtype),
        ),
        fo.norm_outlier(),
    )
    opt = fo.Optimizer([parameter(5, dtype=dtype)], tx)
    for _ in range(300):  # no number of updates that bfloat16 could hold
        opt.step()
    saved = opt.state_dict()
    fresh = fo.Optimizer([parameter(5, dtype=dtype)], tx)
    fresh.load_state_dict(saved_and_loaded(saved))
    assert_same_state(saved, fresh.state_dict())
    assert saved["state"][0]["norms"].dtype == torch.int64
    assert saved["state"][0]["exp_avg"].dtype == (state_dtype or dtype)


TAKING = {
    name: cls
    for name, cls in vars(optim).items()
    if isinstance(cls, type) and "state_dtype" in inspect.signature(cls).parameters
}
KEPT = {"p0", "x0", "GG", "Q", "roots"}  # what `state_dtype` does not reach


def dtypes_of(opt):
    return {
        x.dtype
        for stored in opt.state.values()
        for key, x in stored.items()
        if x.dim() and key.split("/")[0] not in KEPT
    }


@pytest.mark.parametrize("cls", TAKING.values(), ids=TAKING)
@pytest.mark.parametrize("dtypes", [(None, torch.bfloat16), (torch.bfloat16, None)], ids=str)
def test_loading_keeps_the_dtype_of_the_state_that_the_class_was_given(cls, dtypes):
    """Contract 33: it stands in no group, so no checkpoint changes it."""
    saved_in, loaded_in = dtypes
    net, again = model(torch.float32), model(torch.float32)
    more = {"momentum": 0.9} if "momentum" in inspect.signature(cls).parameters else {}
    opt = cls(net.named_parameters(), **more, state_dtype=saved_in)
    other = cls(again.named_parameters(), **more, state_dtype=loaded_in)
    train(net, opt, 3)
    assert dtypes_of(opt) == {saved_in or torch.float32}
    other.load_state_dict(saved_and_loaded(opt.state_dict()))
    assert dtypes_of(other) == {loaded_in or torch.float32}
    train(again, other, 3)
    assert dtypes_of(other) == {loaded_in or torch.float32}
    for group in opt.param_groups + other.param_groups:
        assert "state_dtype" not in group
    assert other.defaults["state_dtype"] == loaded_in


@every_optimizer
def test_loading_replaces_state_and_groups_and_steps_go_on(make):
    """Contract 34: no reference to what was there is kept."""
    net, again = model(), model()
    opt, plain = make(net), make(again)
    train(net, opt, 3)
    train(again, plain, 3)
    old = opt.state, opt.param_groups, opt.param_groups[0]
    opt.load_state_dict(opt.state_dict())
    assert opt.state is not old[0]
    assert opt.param_groups is not old[1]
    assert opt.param_groups[0] is not old[2]
    old[2]["lr"] = 100.0
    train(net, opt, 3)
    train(again, plain, 3)
    assert gap(net, again) == 0.0


@every_optimizer
def test_loading_copies_the_tensors_it_is_given(make):
    """Contract 34: the caller's, and those of the optimizer that made them."""
    net, again = model(), model()
    opt, other = make(net), make(again)
    train(net, opt, 3)
    saved = opt.state_dict()
    before = copied(saved)
    other.load_state_dict(saved)
    train(again, other, 3)
    assert_same_state(saved, before)
    places = [v.data_ptr() for s in other.state.values() for v in s.values()]
    assert len(set(places)) == len(places)


@every_kind
def test_missing_keys_of_groups_take_defaults(kind):
    """Contract 35."""
    net, again = model(), model()
    opt, other = kind.make(net.parameters()), kind.make(again.parameters())
    train(net, opt, 3)
    saved = copied(opt.state_dict())
    for group in saved["param_groups"]:
        for key in set(group) - {"params"}:
            del group[key]
    again.load_state_dict(net.state_dict())
    other.load_state_dict(saved)
    train(net, opt, 3)
    train(again, other, 3)
    assert gap(net, again) == 0.0


@every_optimizer
def test_parameters_without_state_start_afresh(make):
    """Contract 35: as those that were frozen when it was saved."""
    net = model()
    opt = make(net)
    train(net, opt, 3)
    keys = [set(opt.state[p]) for p in net.parameters()]
    saved = copied(opt.state_dict())
    del saved["state"][1]
    opt.load_state_dict(saved)
    train(net, opt, 1)
    assert [set(opt.state[p]) for p in net.parameters()] == keys


@every_optimizer
def test_a_step_may_be_saved_as_a_number(make):
    """Contract 35: as torch once did."""
    net, again = model(), model()
    opt, other = make(net), make(again)
    train(net, opt, 3)
    saved = copied(opt.state_dict())
    for entry in saved["state"].values():
        entry["step"] = entry["step"].item()
    again.load_state_dict(net.state_dict())
    other.load_state_dict(saved)
    train(net, opt, 3)
    train(again, other, 3)
    assert gap(net, again) == 0.0
    assert all(isinstance(s["step"], torch.Tensor) for s in other.state.values())


@every_optimizer
def test_an_empty_state_makes_the_round_trip(make):
    """Contract 35: as accelerate does when it prepares an optimizer."""
    net, again = model(), model()
    opt, plain = make(net), make(again)
    opt.load_state_dict(saved_and_loaded(opt.state_dict()))
    assert not opt.state
    train(net, opt, 3)
    train(again, plain, 3)
    assert gap(net, again) == 0.0


@every_kind
def test_hooks_of_saving(kind):
    """Contract 36: in order, `prepend` first, and the last post hook may replace the dict."""
    opt, seen = kind.make([parameter(2)]), []
    opt.step()
    opt.register_state_dict_pre_hook(lambda opt: seen.append("pre"))
    opt.register_state_dict_pre_hook(lambda opt: seen.append("first"), prepend=True)
    opt.register_state_dict_post_hook(lambda opt, saved: {**saved, "more": seen.append("post")})
    assert "more" in opt.state_dict()
    assert seen == ["first", "pre", "post"]


@every_optimizer
def test_hooks_of_loading(make):
    """Contract 36: a pre hook may replace the dict, and ours sees what it returns."""
    net, again = model(), model()
    opt, other = make(net), make(again)
    train(net, opt, 3)
    seen = []

    def replaced(_, saved):
        seen.append("pre")
        return {**saved, "state": opt.state_dict()["state"]}

    def after(loaded):
        seen.append("post")
        assert loaded.state[next(iter(loaded.state))]["step"] == 3
        loaded.state["test"] = 1

    other.register_load_state_dict_pre_hook(replaced)
    other.register_load_state_dict_post_hook(after)
    other.load_state_dict(state_dict=other.state_dict())
    assert seen == ["pre", "post"]
    assert other.state.pop("test") == 1
    assert_same_state(opt.state_dict()["state"], other.state_dict()["state"])


@every_optimizer
def test_values_that_are_no_dicts_are_tolerated(make):
    """Contract 36: as a hook may leave them in the state."""
    net, again = model(), model()
    opt, plain = make(net), make(again)
    opt.state["test"] = 1
    train(net, opt, 3)
    train(again, plain, 3)
    opt.load_state_dict(opt.state_dict())
    opt.state["test"] = 1
    train(net, opt, 3)
    train(again, plain, 3)
    assert opt.state["test"] == 1
    assert gap(net, again) == 0.0


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@every_optimizer
@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_goes_on_as_the_original(make, way, steps):
    """Contract 37."""
    net = model()
    opt = make(net)
    train(net, opt, steps)
    net2, opt2 = way((net, opt))
    train(net2, opt2, 4)
    assert net2 is not net
    for group, other in zip(opt.param_groups, opt2.param_groups, strict=True):
        assert not set(map(id, group["params"])) & set(map(id, other["params"]))
    train(net, opt, 4)
    assert gap(net, net2) == 0.0
    assert_same_state(opt.state_dict(), opt2.state_dict())


@pytest.mark.parametrize("cls", [optim.AdamW, optim.Muon, optim.AdamWScheduleFree])
@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_keeps_the_dtype_of_the_state(cls, way, steps):
    """Contract 37: before the first step too."""
    net = model(torch.float32)
    opt = cls(net.named_parameters(), state_dtype=torch.bfloat16)
    train(net, opt, steps)
    net2, opt2 = way((net, opt))
    train(net2, opt2, 2)
    assert dtypes_of(opt2) == {torch.bfloat16}
    assert all("state_dtype" not in group for group in opt2.param_groups)


@every_optimizer
@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
def test_a_copy_does_not_take_the_scheduler_with_it(make, way):
    """Contract 37: `step`, once wrapped, is an attribute bound to the original."""
    net = model()
    opt = make(net)
    if make is not OPTIMIZERS["schedule"]:
        torch.optim.lr_scheduler.ConstantLR(opt)
    train(net, opt, 2)
    net2, opt2 = way((net, opt))
    assert "step" not in vars(opt2)
    before = values(net)
    train(net2, opt2, 2)
    assert gap(net, before) == 0.0
    assert gap(net2, before) > 0


@every_optimizer
def test_a_deep_copy_has_all_public_attributes(make):
    """Contract 37: as torch's own test compares them."""
    net = model()
    opt = make(net)
    train(net, opt, 2)
    opt2 = copy.deepcopy(opt)
    public = {key for key in vars(opt) if not key.startswith("_")}
    assert public == {key for key in vars(opt2) if not key.startswith("_")}
    assert opt2.defaults == opt.defaults
    for group, other in zip(opt.param_groups, opt2.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }


@every_kind
@pytest.mark.parametrize("way", [copy.deepcopy, pickled])
def test_a_copy_can_be_saved_loaded_and_given_groups(kind, way):
    """Contract 37: nothing private is left behind."""
    net = model()
    opt = way(kind.make(net[0].parameters()))
    opt.add_param_group({"params": net[2].parameters()})
    opt.register_step_post_hook(lambda *args: None)
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    opt.step()
    opt.zero_grad()
    opt.load_state_dict(opt.state_dict())
    assert repr(opt).startswith(type(opt).__name__)


@every_kind
def test_an_old_state_beside_new_groups_keeps_its_clocks(kind):
    """Contract 38."""
    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    train(net, opt, 5)
    train(again, plain, 5)
    old = opt.state_dict()["state"]
    fresh = kind.make(net.parameters())
    fresh.load_state_dict({"state": old, "param_groups": fresh.state_dict()["param_groups"]})
    train(net, fresh, 5)
    train(again, plain, 5)
    assert gap(net, again) == 0.0


@every_kind
def test_it_prints_the_groups_and_nothing_of_the_state(kind):
    """Contract 39."""
    net = model()
    opt = kind.make(net.parameters())
    train(net, opt, 2)
    lines = repr(opt).splitlines()
    assert lines[0] == f"{type(opt).__name__} ("
    assert "    lr: 0.01" in lines
    assert "tensor" not in repr(opt)


@every_kind
@pytest.mark.filterwarnings("ignore:.*Profiler clears events")  # of torch 2.11, in every profile
def test_profiles_name_the_class(kind):
    """Contract 39."""
    opt = kind.make([parameter(2)])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        opt.step()
        opt.zero_grad()
    names = {event.key for event in profile.key_averages()}
    assert f"Optimizer.step#{type(opt).__name__}.step" in names
    assert f"Optimizer.zero_grad#{type(opt).__name__}.zero_grad" in names


INTEROP = {
    "AdamW": ({}, {"amsgrad": True}, {"betas": (0.8, 0.9)}, {"maximize": True}),
    "NAdam": ({}, {"momentum_decay": 0.1}),
    "RAdam": ({}, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    "Adamax": ({}, {"betas": (0.8, 0.9)}),
    "Adam": ({}, {"amsgrad": True, "weight_decay": 0.1}),
    "SGD": ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
    "RMSprop": ({}, {"momentum": 0.9, "centered": True}),
    "Adagrad": ({}, {"lr_decay": 0.1}),
    "Adadelta": ({},),
    "Adafactor": ({}, {"weight_decay": 0.1}),
    "ASGD": ({}, {"t0": 2, "weight_decay": 0.1}),
    "Rprop": ({}, {"etas": (0.6, 1.3)}),
    "Muon": ({}, {"momentum": 0.9, "nesterov": False}),
}
BOTH = [(name, options) for name, all_options in INTEROP.items() for options in all_options]


def taken(name, net):
    """What torch's class takes of a model: Muon matrices only."""
    return [p for p in net.parameters() if name != "Muon" or p.dim() == 2]


def as_torchs(name):
    """The class that makes the steps of torch's."""
    cls = getattr(optim, name)
    return functools.partial(cls, labels="muon") if name == "Muon" else cls


@pytest.mark.parametrize(("name", "options"), BOTH, ids=str)
@pytest.mark.parametrize("back", [False, True], ids=["from torch", "to torch"])
def test_checkpoints_load_both_ways(name, options, back, in_float64):
    """Contract 40."""
    classes = as_torchs(name), getattr(torch.optim, name)
    theirs, ours = classes if back else reversed(classes)
    net = model()
    opt = theirs(taken(name, net), lr=0.01, **options)
    train(net, opt, 5)
    again = model()
    other = ours(taken(name, again))
    again.load_state_dict(net.state_dict())
    other.load_state_dict(saved_and_loaded(opt.state_dict()))
    assert other.param_groups[0]["lr"] == 0.01
    train(net, opt, 10)
    train(again, other, 10)
    assert gap(net, again) <= 1e-12


@pytest.mark.parametrize("back", [False, True], ids=["from torch", "to torch"])
def test_checkpoints_load_both_ways_beside_narrow_moments(back):
    """Contract 40: each side goes on in the dtype in which it creates its state."""
    net, again = model(torch.float32), model(torch.float32)
    ours = optim.AdamW((again if not back else net).parameters(), state_dtype=torch.bfloat16)
    theirs = torch.optim.AdamW((net if not back else again).parameters())
    opt, other = (ours, theirs) if back else (theirs, ours)
    train(net, opt, 5)
    other.load_state_dict(saved_and_loaded(opt.state_dict()))
    train(again, other, 2)
    assert dtypes_of(ours) == {torch.bfloat16}
    assert dtypes_of(theirs) == {torch.float32}
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        assert other.state[q]["step"] == opt.state[p]["step"] + 2


def test_every_class_of_torch_is_held():
    """Contract 40."""
    ours = {name for name, value in vars(optim).items() if isinstance(value, type)}
    both = {name for name in ours if hasattr(torch.optim, name)} - {"Optimizer"}
    assert set(INTEROP) == both - {"LBFGS"}  # its state is by parameter: other than torch's
    assert {kind.name for kind in KINDS} - {"chain", "short way"} <= set(INTEROP)
