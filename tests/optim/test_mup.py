"""`param_groups_mup`: learning rates that stay good while a model gets wider."""

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LabelError


class Net(nn.Module):
    def __init__(self, width, out=3):
        super().__init__()
        self.embed = nn.Embedding(7, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out)

    def forward(self, x):
        x = self.embed(x)
        return self.head(self.norm(x + self.down(self.up(x).relu())))


def official(model, base, lr, weight_decay, rule):
    """`MuAdam` and `MuSGD` of microsoft/mup: the learning rate and the decay of each parameter."""
    found = {}
    shapes = dict(base.named_parameters())
    for name, p in model.named_parameters():
        mults = [n / m for n, m in zip(p.shape, shapes[name].shape, strict=True)]
        infinite = [m for m in mults if m != 1]
        main = infinite[-1] if infinite else 1  # `InfShape.main`
        if rule == "adam":
            factor = main if len(infinite) == 2 else 1
        else:
            ratio = mults[1] / mults[0] if len(infinite) == 2 else 1
            factor = ratio if len(infinite) == 2 else (1 / main)
        found[name] = (lr / factor, weight_decay * factor)
    return found


def by_name(groups):
    return {
        name: (group["lr"], group.get("weight_decay"))
        for group in groups
        for name, _ in group["params"]
    }


@pytest.mark.parametrize(("rule", "factor"), [("adam", 1 / 4), ("sgd", 2 / 4)])
def test_the_width_of_a_hidden_weight_is_that_of_its_inputs(rule, factor):
    groups = optim.param_groups_mup(nn.Linear(32, 24), nn.Linear(8, 12), lr=1.0, rule=rule)
    assert by_name(groups)["weight"][0] == factor


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_learning_rates_and_decays_are_those_of_the_official_code(rule):
    model, base = Net(32), Net(8)
    groups = optim.param_groups_mup(model, base, lr=0.3, weight_decay=0.1, rule=rule)
    found, expected = by_name(groups), official(model, base, 0.3, 0.1, rule)
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name] == pytest.approx(expected[name], rel=1e-15)
    assert len(groups) == 2 if rule == "adam" else 3


def test_of_a_readout_it_falls_with_the_width():
    groups = optim.param_groups_mup(Net(32), Net(8), lr=1.0, readout=["head"])
    found = by_name(groups)
    assert found["head.weight"][0] == 0.25
    assert found["head.bias"][0] == 1.0
    assert found["embed.weight"] == (1.0, None)
    sgd = optim.param_groups_mup(Net(32), Net(8), lr=1.0, readout=["head"], rule="sgd")
    assert by_name(sgd)["head.weight"][0] == 0.25


def test_at_the_width_of_the_base_all_is_as_it_was():
    (group,) = optim.param_groups_mup(Net(8), Net(8), lr=0.1, weight_decay=0.2)
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)


def test_shapes_by_name_do_for_a_base_and_some_parameters_do_not_decay():
    model = Net(32)
    shapes = {name: p.shape for name, p in Net(8).named_parameters()}
    options = {"lr": 0.1, "weight_decay": 0.1, "weight_decay_exclude_1d": True}
    groups = optim.param_groups_mup(model, shapes, no_weight_decay_list=["embed.*"], **options)
    found = by_name(groups)
    assert found["embed.weight"] == found["norm.weight"] == (0.1, 0.0)
    assert found["up.weight"] == (0.025, 0.4)
    assert [group["name"] for group in groups] == ["lr_over_1_no_decay", "lr_over_1", "lr_over_4"]


def test_the_update_of_a_wider_model_changes_its_outputs_as_much():
    """The claim of the paper, after a few steps; with one learning rate for all it grows."""

    def change(width, groups):
        torch.manual_seed(0)
        model, x = Net(width), torch.arange(7)
        with torch.no_grad():
            model.head.weight.zero_()
            for layer in (model.up, model.down):
                layer.weight.normal_(std=layer.in_features**-0.5)
        opt = optim.Adam(groups(model), lr=1e-2)
        before = model(x).detach()
        for _ in range(5):
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), x % 3).backward()
            opt.step()
        return (model(x) - before).detach().square().mean().sqrt().item()

    def mup(model):
        return optim.param_groups_mup(model, Net(32), lr=1e-2, readout=["head"])

    narrow, wide = change(32, mup), change(1024, mup)
    assert 0.5 < wide / narrow < 2.0
    assert change(1024, lambda model: model.named_parameters()) > 4 * wide


def test_a_scheduler_and_a_checkpoint_follow_the_groups():
    model = Net(32)
    opt = optim.AdamW(optim.param_groups_mup(model, Net(8), lr=0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    model(torch.arange(7)).square().mean().backward()
    opt.step()
    scheduler.step()
    assert sorted(group["lr"] for group in opt.param_groups) == [0.0125, 0.05]
    again = optim.AdamW(optim.param_groups_mup(Net(32), Net(8), lr=0.1))
    again.load_state_dict(opt.state_dict())
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in opt.param_groups]


@pytest.mark.parametrize(
    ("base", "options", "error", "sentence"),
    [
        (Net(8), {"lr": fo.linear_schedule(1.0, 0.0, 9)}, HyperparameterError, "`lr` must be a n"),
        (Net(8), {"lr": -1.0}, HyperparameterError, "`lr` must not be negative"),
        (Net(8), {"lr": 1.0, "rule": "lion"}, HyperparameterError, "`rule`"),
        (Net(8), {"lr": 1.0, "readout": "head"}, HyperparameterError, r"write \['head'\]"),
        (Net(8), {"lr": 1.0, "readout": ["haed"]}, LabelError, "'haed' of `readout` fits none"),
        ({}, {"lr": 1.0}, LabelError, "`embed.weight` of shape .7, 32. is not in `base`"),
        (8, {"lr": 1.0}, HyperparameterError, "`base` must be a model"),
        (
            {**{n: p.shape for n, p in Net(8).named_parameters()}, "more": (1,)},
            {"lr": 1.0},
            LabelError,
            r"that the model has not: \['more'\]",
        ),
    ],
)
def test_mistakes_get_a_sentence(base, options, error, sentence):
    with pytest.raises(error, match=sentence):
        optim.param_groups_mup(Net(32), base, **options)
