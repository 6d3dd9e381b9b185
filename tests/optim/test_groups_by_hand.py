"""Groups that were edited by hand: what is trained, and by which numbers."""

import copy

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, StructureError

from ..cases import is_matrix


def parameters():
    """A vector that comes first, and a matrix."""
    return {
        "bias": torch.nn.Parameter(torch.ones(2)),
        "weight": torch.nn.Parameter(torch.ones(2, 2)),
    }


def step(opt, grad=0.0):
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.full_like(p, grad)
    opt.step()


DECAYED = fo.chain(
    fo.masked(fo.add_decayed_weights(0.5), is_matrix), fo.scale_by_learning_rate(0.1)
)
MASKED = {
    "masked": DECAYED,
    "in a wrapper": fo.skip_if(DECAYED),
    "masked twice": fo.chain(
        fo.masked(fo.masked(fo.add_decayed_weights(0.5), r"weight"), is_matrix),
        fo.scale_by_learning_rate(0.1),
    ),
    "in a partition": fo.partition({"all": DECAYED}, lambda name, p: "all"),
}


# What has to do with one of the parameters stands in the group.


@pytest.mark.parametrize("tx", MASKED.values(), ids=MASKED)
@pytest.mark.parametrize("order", [1, -1], ids=["first", "later"])
@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("how", ["an option", "set later", "loaded"])
def test_a_number_of_a_mask_is_that_of_the_group_wherever_its_parameter_stands(
    tx, order, engine, how
):
    ps = parameters()
    group = {"params": list(ps.items())[::order]}
    if how == "an option":
        group["weight_decay"] = 0.0
    opt = fo.Optimizer([group], tx, engine=engine)
    if how == "set later":
        step(opt)
        with torch.no_grad():
            ps["weight"].fill_(1.0)
        opt.param_groups[0]["weight_decay"] = 0.0
    if how == "loaded":
        saved = copy.deepcopy(opt.state_dict())
        saved["param_groups"][0]["weight_decay"] = 0.0
        opt.load_state_dict(saved)
    step(opt)
    assert torch.equal(ps["weight"], torch.ones(2, 2))


def test_a_scheduler_drives_a_masked_rate_although_the_first_parameter_has_none():
    ps = parameters()
    opt = fo.Optimizer(ps.items(), fo.masked(fo.sgd(0.1), is_matrix))
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda epoch: 0.5)
    step(opt, 1.0)
    assert torch.equal(ps["weight"], torch.full((2, 2), 0.95))
    assert scheduler.get_last_lr() == [0.05]


def test_a_schedule_of_a_mask_is_shown_and_saved():
    ps = parameters()
    falling = fo.linear_schedule(0.4, 0.0, 4)
    tx = fo.chain(fo.masked(fo.add_decayed_weights(falling), is_matrix), fo.scale(-1.0))
    opt = fo.Optimizer(ps.items(), tx)
    for expected in (0.4, 0.3, 0.2):
        assert opt.param_groups[0]["weight_decay"] == pytest.approx(expected)
        step(opt)
    again = fo.Optimizer(list(ps.items())[::-1], tx)
    again.load_state_dict(opt.state_dict())
    assert again.param_groups[0]["weight_decay"] == pytest.approx(0.1)


def test_a_number_that_a_new_parameter_brings_appears_in_its_group():
    ps = parameters()
    opt = fo.Optimizer([ps["bias"]], DECAYED)
    step(opt)
    assert "weight_decay" not in opt.param_groups[0]
    opt.param_groups[0]["params"].append(ps["weight"])
    step(opt)
    assert opt.param_groups[0]["weight_decay"] == 0.5
    assert torch.allclose(ps["weight"], torch.full((2, 2), 0.95))
    opt.param_groups[0]["weight_decay"] = 0.0
    before = ps["weight"].detach().clone()
    step(opt)
    assert torch.equal(ps["weight"], before)


def test_an_option_waits_for_the_parameter_that_it_is_for():
    """Of a group that a mask leaves out as a whole, until it is edited."""
    ps = parameters()
    groups = [{"params": [ps["weight"]]}, {"params": [ps["bias"]], "weight_decay": 0.4}]
    opt = fo.Optimizer(groups, DECAYED)
    step(opt)
    late = torch.nn.Parameter(torch.ones(2, 2))
    opt.param_groups[1]["params"].append(late)
    step(opt)
    assert torch.allclose(late, torch.full((2, 2), 0.96))


@pytest.mark.parametrize("saved", [False, True], ids=["fresh", "loaded"])
def test_schedulers_take_groups_that_a_mask_leaves_out(saved):
    ps = parameters()
    tx = fo.masked(fo.sgd(0.1, momentum=0.9), is_matrix)
    opt = fo.Optimizer([{"params": [ps["weight"]]}, {"params": [ps["bias"]]}], tx)
    if saved:
        older = opt.state_dict()
        del older["param_groups"][1]["lr"]
        opt.load_state_dict(older)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, gamma=0.5)
    step(opt, 1.0)
    scheduler.step()
    assert [group["lr"] for group in opt.param_groups] == [0.05, 0.05]
    assert torch.equal(ps["bias"], torch.full((2,), 2.0))  # the update is its gradient


# Names of hyperparameters.


def test_a_clip_does_not_own_the_eps_of_a_group():
    p = torch.nn.Parameter(torch.zeros(3))
    tx = fo.chain(fo.clip_by_global_norm(1.0), fo.adamw(1.0, weight_decay=0.0))
    opt = fo.Optimizer([{"params": [p], "eps": 1.0}], tx)
    step(opt, 1e-4)
    torch.testing.assert_close(p, torch.full((3,), -1e-4 / (1e-4 + 1.0)), rtol=1e-5, atol=0)


TWO = fo.chain(fo.scale_by_rms(), fo.scale_by_adam(), fo.scale_by_learning_rate(0.1))


def test_an_option_that_several_stages_have_is_refused_and_nothing_is_added():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(HyperparameterError, match=r"`eps` is .* of several .*scale_by_rms/eps"):
        fo.Optimizer([{"params": [p], "eps": 0.5}], TWO)
    opt = fo.Optimizer([p], TWO)
    with pytest.raises(HyperparameterError, match="scale_by_adam/eps"):
        opt.add_param_group({"params": [q], "eps": 0.5})
    assert len(opt.param_groups) == 1
    opt.param_groups[0]["eps"] = 0.5
    with pytest.raises(HyperparameterError, match=r"group 0.*`eps` is .*scale_by_rms/eps"):
        step(opt, 1.0)
    assert torch.equal(p, torch.ones(2))


def test_a_longer_name_of_an_option_is_understood_and_set_later_it_is_refused():
    p = torch.nn.Parameter(torch.ones(2))
    opt = fo.Optimizer([{"params": [p], "scale_by_adam/betas": (0.5, 0.5)}], fo.adamw(0.1))
    assert opt.param_groups[0]["betas"] == (0.5, 0.5)
    assert "scale_by_adam/betas" not in opt.param_groups[0]
    opt.param_groups[0]["scale_by_adam/betas"] = (0.9, 0.9)
    with pytest.raises(HyperparameterError, match=r"`scale_by_adam/betas`.* is called `betas`"):
        step(opt)


def test_a_group_of_a_label_has_bare_names_and_takes_its_own_with_the_label():
    ps = parameters()
    tx = fo.partition(
        {"matrix": fo.sgd(0.1), "rest": fo.adamw(0.2)}, [(is_matrix, "matrix"), (".", "rest")]
    )
    opt = fo.Optimizer([{"params": list(ps.items()), "rest/lr": 0.3}], tx)
    assert {group["name"]: group["lr"] for group in opt.param_groups} == {
        "rest": 0.3,
        "matrix": 0.1,
    }
    assert all("rest/lr" not in group for group in opt.param_groups)


def test_several_rates_for_the_same_parameters_are_announced():
    with pytest.warns(
        UserWarning, match="several stages have an `lr`.*scale_by_learning_rate_2/lr"
    ):
        fo.Optimizer(
            [torch.nn.Parameter(torch.ones(1))], fo.chain(fo.sgd(0.1), fo.sgd(0.1), fo.scale(-1.0))
        )


# The list of parameters.


MAKERS = {
    "a class": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9),
    "a chain": lambda ps: fo.Optimizer(ps, fo.sgd(0.1, 0.9)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_appended_parameter_is_trained_and_one_without_a_name_among_others_is_refused(make):
    ps, new = parameters(), torch.nn.Parameter(torch.ones(3))
    nameless, named = make(list(ps.values())), make(ps.items())
    for opt in (nameless, named):
        step(opt, 1.0)
        opt.param_groups[0]["params"].append(new)
    step(nameless, 1.0)
    assert torch.allclose(new, torch.full((3,), 0.9))
    with pytest.raises(StructureError, match=r"3 parameters and 2 names.*`param_names`"):
        step(named, 1.0)
    with pytest.raises(StructureError, match="`param_names`"):
        named.state_dict()
    named.param_groups[0]["param_names"].append("new")
    step(named, 1.0)
    assert named.state_dict()["param_groups"][0]["param_names"] == ["bias", "weight", "new"]


@pytest.mark.parametrize("when", ["before the first step", "later"])
def test_names_go_with_the_parameters_that_they_belong_to(when):
    ps = parameters()
    tx = fo.chain(fo.masked(fo.add_decayed_weights(0.5), r"weight"), fo.scale_by_learning_rate(0.1))
    opt = fo.Optimizer(ps.items(), tx)
    if when == "later":
        step(opt)
    opt.param_groups[0]["params"].reverse()
    with torch.no_grad():
        ps["weight"].fill_(1.0)
    step(opt)
    assert torch.equal(ps["bias"], torch.ones(2))
    assert torch.allclose(ps["weight"], torch.full((2, 2), 0.95))
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    opt.param_groups[0]["params"][0] = torch.nn.Parameter(torch.ones(4))
    with pytest.raises(StructureError, match=r"state of a parameter of shape \(2, 2\).*`drop`"):
        opt.state_dict()
    del opt.state[ps["weight"]]
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    del opt.param_groups[0]["params"][0]
    step(opt)
    assert opt.param_groups[0]["param_names"] == ["bias"]


def test_states_that_are_exchanged_go_with_their_parameters():
    found = []
    for cls in (torch.optim.SGD, optim.SGD):
        ps = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
        opt = cls(ps, lr=1.0, momentum=0.9)
        for _ in range(2):
            ps[0].grad, ps[1].grad = torch.ones(2), -torch.ones(2)
            opt.step()
        old = [opt.state.pop(p) for p in ps]
        for p, state in zip(reversed(ps), old, strict=True):
            opt.state[p] = state
        opt.step()
        found.append(ps)
    torch.testing.assert_close(*found)
