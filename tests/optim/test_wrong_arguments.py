"""Every class with one wrong argument of each kind: an error of this library, or none."""

import inspect

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import FuncoptError, HyperparameterError, ModeError

from ..contract.common import model

CLASSES = {name: cls for name, cls in vars(optim).items() if hasattr(cls, "maker")}
WRONG = {
    "a string": "x",
    "a negative number": -1.0,
    "None": None,
    "a list": [1],
    "three numbers": (1.0, 2.0, 3.0),
    "words": ("a", "b"),
    "a complex number": 1j,
    "nan": float("nan"),
    "inf": float("inf"),
    "a class": int,
    "a module": torch.nn.Linear(1, 1),
    "a transformation": fo.sgd(0.1),
    "a vector": torch.ones(3),
    "a dict": {"a": 1},
    "bytes": b"x",
    "an integer dtype": torch.int64,
    "a function of nothing": lambda: 3,
    "a schedule of words": lambda step: "x",
}
INSIDE = {"labels", "engine"}  # with messages about parameters, and words


def stepped(cls, **wrong):
    net = model()
    opt = cls(net.named_parameters(), **wrong)

    def closure():
        opt.zero_grad()
        loss = net(torch.ones(2, 3, dtype=torch.float64)).square().mean()
        loss.backward()
        return loss

    opt.step(closure)
    opt.state_dict()


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", CLASSES)
def test_a_wrong_argument_is_refused_by_its_name_or_taken(name, kind):
    cls = CLASSES[name]
    for key in inspect.signature(cls).parameters.keys() - {"params"}:
        try:
            stepped(cls, **{key: WRONG[kind]})
        except FuncoptError as error:
            said = str(error)
            assert said.startswith(f"`{name}`"), said
            assert "tensor(" not in said, said
            if "the schedule" not in said:
                assert f"`{key}" in said or key in INSIDE or kind == "None", said


SWITCHES = ["maximize", "differentiable", "capturable", "foreach", "fused", "offload"]


@pytest.mark.parametrize("option", SWITCHES)
def test_options_of_all_classes_are_switches(option):
    with pytest.raises(HyperparameterError, match=f"`AdamW`: `{option}` must be True or False"):
        optim.AdamW(model().parameters(), **{option: "yes"})


def test_autograd_cannot_follow_the_steps_of_leaves():
    with pytest.raises(ModeError, match=r"parameter '0\.weight' of group 0 is a leaf Variable"):
        stepped(optim.SGD, differentiable=True)


def test_a_schedule_that_fails_is_named_with_its_key_and_changes_nothing():
    match = r"`AdamW`: `lr` of parameter group 0: the schedule .* fails after 0 updates: TypeError"
    with pytest.raises(HyperparameterError, match=match):
        optim.AdamW(model().parameters(), lr=lambda: 1e-3)
    match = r"`SGD`: `lr` of parameter group 0: the schedule .* returns 'x' after 0 updates. A sche"
    with pytest.raises(HyperparameterError, match=match):
        optim.SGD(model().parameters(), lr=lambda step: "x")
    tx, params = fo.sgd(lambda: 0.1), {"w": torch.ones(2)}
    with pytest.raises(HyperparameterError, match="A schedule is a function of the number"):
        tx.update(params, tx.init(params), params)


def test_a_schedule_is_taken_by_every_class():
    for name, cls in CLASSES.items():
        opt = cls(model().named_parameters(), lr=fo.linear_schedule(1.0, 0.5, 10))
        assert opt.param_groups[0]["lr"] == 1.0 or name == "Muon"


@pytest.mark.parametrize("make", [fo.adamw, fo.lion, fo.schedule_free_sgd, fo.muon])
def test_moments_are_floating_point(make):
    with pytest.raises(HyperparameterError, match=r"`state_dtype` must be a floating-point dtype"):
        make(state_dtype=torch.int64)
