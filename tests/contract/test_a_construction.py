"""Contract A: identity and construction."""

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .common import (
    every_kind,
    gap,
    loss_of,
    model,
    parameter,
    train,
)

CLASSES = [
    value
    for value in vars(optim).values()
    if isinstance(value, type) and issubclass(value, optim.Optimizer) and value != optim.Optimizer
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_classes_are_real_subclasses_made_of_params_and_keywords(cls):
    """Contract 1."""
    assert issubclass(cls, torch.optim.Optimizer)
    p, q = ("p", parameter(2, 2)), ("q", parameter(3, 2))
    by_position, by_keyword = cls([p], lr=0.5), cls(params=[p], lr=0.5)
    groups = cls([{"params": [p]}, {"params": [q], "lr": 0.25}], lr=0.5)
    assert by_position.param_groups[0]["lr"] == by_keyword.param_groups[0]["lr"] == 0.5
    assert [group["lr"] for group in groups.param_groups] == [0.5, 0.25]


def test_a_chain_takes_params_first_or_by_name():
    """Contract 1."""
    assert isinstance(fo.Optimizer([parameter(2)], fo.sgd(0.1)), torch.optim.Optimizer)
    assert fo.Optimizer(params=[parameter(2)], tx=fo.sgd(0.1)).defaults["lr"] == 0.1


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_takes_its_defaults_back(cls):
    """Contract 2."""
    opt = cls([parameter(2)], lr=0.5)
    again = type(opt)([parameter(2)], **opt.defaults)
    assert again.defaults == opt.defaults


HINTS = [
    {"foreach": True},
    {"foreach": False},
    {"maximize": True},
    {"capturable": True},
    {"differentiable": False},
    {"fused": None},
    {"fused": False},
    {"fused": True},
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_classes_take_the_hints_of_torchs(cls, hint):
    """Contract 2."""
    p = parameter(2)
    before = p.detach().clone()
    free = {"constrained": False} if cls is optim.Scion else {}  # else p stays in a ball
    opt = cls([p], lr=0.1, **hint, **free)

    def closure():
        opt.zero_grad()
        loss = p.sum() + 2.0  # of 0, methods that read the loss would not move
        loss.backward()
        return loss

    for _ in range(6):  # the first of SOAP makes its bases; RAdam waits for its variance
        opt.step(closure)
    assert bool((p > before).all()) == hint.get("maximize", False)


MISTAKES = {
    "a bare tensor": lambda make: make(torch.nn.Parameter(torch.ones(1))),
    "a set in a group": lambda make: make([{"params": {parameter(1)}}]),
    "nothing": lambda make: make([]),
    "numbers": lambda make: make([1.0]),
    "a tensor that is computed": lambda make: make([parameter(1) * 2]),
    "one tensor in two groups": lambda make: (lambda p: make([{"params": [p]}, {"params": [p]}]))(
        parameter(1)
    ),
    "names for some": lambda make: make([("a", parameter(1)), parameter(2)]),
    "names in some groups": lambda make: make(
        [{"params": [("a", parameter(1))]}, {"params": [parameter(2)]}]
    ),
}


@every_kind
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_with_params_have_the_types_and_messages_of_torch(kind, mistake):
    """Contract 3."""
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        MISTAKES[mistake](kind.theirs)
    with pytest.raises(theirs.type) as ours:
        MISTAKES[mistake](kind.make)
    assert str(theirs.value) in str(ours.value)
    assert isinstance(ours.value, fo.errors.FuncoptError)


@every_kind
def test_a_vector_is_no_lr(kind):
    """Contract 3."""
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        kind.make([{"params": [parameter(2)], "lr": torch.tensor([0.1, 0.2])}])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_vector_is_no_lr_of_a_class(cls):
    """Contract 3."""
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        cls([parameter(2)], lr=torch.tensor([0.1, 0.2]))


@every_kind
def test_names_are_kept(kind):
    """Contract 3."""
    net = model()
    opt = kind.make(net.named_parameters())
    assert opt.param_groups[0]["param_names"] == [name for name, _ in net.named_parameters()]


@every_kind
def test_a_duplicate_in_a_group_warns(kind):
    """Contract 3."""
    p = parameter(2)
    with pytest.warns(UserWarning, match="parameter group with duplicate parameters"):
        kind.make([p, p])


@every_kind
def test_defaults_hold_lr_and_the_momentum(kind):
    """Contract 4."""
    opt = kind.make([parameter(2)])
    assert {"lr", kind.momentum} <= set(opt.defaults)
    assert {"lr", kind.momentum} <= set(opt.param_groups[0])
    assert torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=9).get_last_lr()


@every_kind
def test_state_groups_and_defaults_are_plain_attributes(kind):
    """Contract 5."""
    net, again = model(), model()
    opt, other = kind.make(net.parameters()), kind.make(again.parameters())
    train(net, opt, 2)
    train(again, other, 2)
    assert {"state", "param_groups", "defaults"} <= set(vars(opt))
    opt.state = opt.state.copy()
    opt.defaults = dict(opt.defaults)
    alias = opt.param_groups = [dict(group) for group in opt.param_groups]
    for mine in (alias, other.param_groups):
        mine[0]["lr"] = 0.5
    train(net, opt, 2)
    train(again, other, 2)
    assert gap(net, again) == 0.0


@every_kind
def test_a_class_can_be_mixed_with_another_without_its_init(kind):
    """Contract 6."""

    class Wrapper:
        def __init__(self, opt):
            self.__dict__.update(vars(opt))
            self.steps = 0

        def step(self, closure=None):
            self.steps += 1
            return super().step(closure)

    net, again = model(), model()
    opt, plain = kind.make(net.parameters()), kind.make(again.parameters())
    mixed = type("Lightning" + type(opt).__name__, (Wrapper, type(opt)), {})(opt)
    train(net, mixed, 3)
    train(again, plain, 3)
    assert isinstance(mixed, type(opt))
    assert mixed.steps == 3
    assert gap(net, again) == 0.0


@every_kind
@pytest.mark.parametrize("first", [True, False])
def test_an_empty_group_is_legal(kind, first):
    """Contract 7."""
    net, again = model(), model()
    full, empty = {"params": list(net.parameters())}, {"params": [], "weight_decay": 0.0}
    opt = kind.make([empty, full] if first else [full, empty])
    plain = kind.make(again.parameters())
    train(net, opt, 3)
    train(again, plain, 3)
    assert gap(net, again) == 0.0
    saved = opt.state_dict()
    opt.load_state_dict(saved)
    assert [len(group["params"]) for group in opt.param_groups] == ([0, 4] if first else [4, 0])


@every_kind
def test_a_group_added_in_mid_training_takes_defaults_and_starts_afresh(kind):
    """Contract 8."""
    nets = model(), model()
    opts = kind.make(nets[0][0].parameters()), kind.theirs(nets[1][0].parameters())
    for net, opt, clips in zip(nets, opts, (False, kind.clips), strict=True):
        for phase in range(2):
            if phase:
                net.zero_grad()
                opt.add_param_group({"params": list(net[2].parameters()), "weight_decay": 0.3})
            for _ in range(4):
                opt.zero_grad()
                loss_of(net).backward()
                if clips:
                    mine = [p for group in opt.param_groups for p in group["params"]]
                    torch.nn.utils.clip_grad_norm_(mine, 0.05)
                opt.step()
    assert opts[0].param_groups[1]["lr"] == opts[0].defaults["lr"]
    assert opts[0].param_groups[1]["weight_decay"] == 0.3
    assert gap(*nets) <= 1e-12
    assert opts[0].state[nets[0][0].weight]["step"] == 8
    assert opts[0].state[nets[0][2].weight]["step"] == 4


@every_kind
def test_the_steps_are_those_of_torch(kind):
    """Contract 1, 18: what the other tests take for granted."""
    nets = model(), model()
    train(nets[0], kind.make(nets[0].parameters()), 20)
    train(nets[1], kind.theirs(nets[1].parameters()), 20, kind.clips)
    assert gap(*nets) <= 1e-12


@pytest.mark.parametrize("cls", [optim.AdamW, optim.Muon])
def test_the_dtype_of_the_state_is_that_of_all_groups(cls):
    """Contract 2: an argument of the class, which a group may repeat, as its defaults do."""
    given = {"params": [("a", parameter(2, 2))], "state_dtype": torch.bfloat16}
    opt = cls([given], state_dtype=torch.bfloat16)
    assert all("state_dtype" not in group for group in opt.param_groups)
    with pytest.raises(fo.errors.HyperparameterError, match="no key of a group"):
        opt.add_param_group({"params": [("b", parameter(2, 2))], "state_dtype": torch.float64})
    assert [group["param_names"] for group in opt.param_groups] == [["a"]]
    with pytest.raises(fo.errors.HyperparameterError, match="it is None in all of them, got torch"):
        cls([{"params": [("a", parameter(2, 2))], "state_dtype": torch.bfloat16}])
