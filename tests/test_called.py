"""An error about a value names what was called, and the argument as it was given."""

import inspect
import re

import pytest
import torch

import funcopt as fo
from funcopt import aliases, optim

from .cases import by_dimension

ALIASES = {
    name: alias
    for name, alias in vars(aliases).items()
    if inspect.isfunction(alias) and name in fo.__all__ and name != "hidden_weights"
}
CLASSES = {
    name: getattr(optim, name) for name in optim.__all__ if hasattr(getattr(optim, name), "maker")
}
BAD = {
    "negative": -1.0,
    "beyond one": 2.0,
    "no number": float("nan"),
    "a word": "fast",
    "a vector": torch.ones(3),
    "an object": object(),
    "a pair": (0.9, 2.0),
    "a module": torch.nn.Linear(1, 1),
    "a dtype": torch.float32,
}
EXECUTION = {"params", "engine", "maximize", "foreach", "fused", "capturable", "differentiable"}


def parameters():
    shapes = {"h.weight": (2, 2), "h.bias": (2,)}
    return [(name, torch.nn.Parameter(torch.ones(shape))) for name, shape in shapes.items()]


def said(call, **given):
    """What the call says of a bad value; `None` if it takes it."""
    try:
        call(**given)
    except fo.errors.FuncoptError as error:
        return str(error)
    return None


def filled(call, key):
    """The call with what it needs besides `key`."""
    needed = inspect.signature(call).parameters.values()
    rest = {a.name: 0.5 for a in needed if a.default is a.empty and a.name != key}
    return lambda **given: call(**rest, **given)


def check(who, call, arguments):
    """Tries all bad values of all arguments: each is taken, or refused by name."""
    refused = 0
    for key in arguments:
        for kind, value in BAD.items():
            text = said(filled(call, key), **{key: value})
            if text is not None:
                refused += 1
                assert re.match(rf"`{who}`(, in `\w+`)?: `{key}(\[\d\])?` ", text), (kind, text)
    return refused


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_named_with_the_argument_that_it_was_given(name):
    arguments = [key for key in inspect.signature(ALIASES[name]).parameters if key != "labels"]
    assert check(name, ALIASES[name], arguments) > 10


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_named_with_the_argument_that_it_was_given(name):
    def call(**given):
        return CLASSES[name](parameters(), **given)

    call.__signature__ = inspect.Signature()  # nothing is needed

    skipped = {*EXECUTION, "labels"}
    arguments = [key for key in inspect.signature(CLASSES[name]).parameters if key not in skipped]
    assert check(name, call, arguments) > 10


@pytest.mark.parametrize("name", ALIASES)
def test_switches_and_dtypes_are_what_they_say(name):
    for key, argument in inspect.signature(ALIASES[name]).parameters.items():
        if argument.annotation is bool:
            for value in ("yes", 2, None, torch.tensor(True)):
                assert said(filled(ALIASES[name], key), **{key: value}) is not None, (key, value)
        if "dtype" in key:
            text = said(filled(ALIASES[name], key), **{key: "float64"})
            assert text is not None
            assert "must be a dtype such as torch.float64, got 'float64'" in text


def test_switches_of_numpy_are_switches():
    numpy = pytest.importorskip("numpy")
    assert fo.scale_by_adam(amsgrad=numpy.bool_(True)).amsgrad


class tilted(fo.TensorRule):
    """A rule of a user's own, with structure."""

    upwards: bool
    kept_in: torch.dtype | None = None

    def update_tensor(self, g, slots, p, s):
        return g, slots


@pytest.mark.parametrize("changes", [{"upwards": 1}, {"kept_in": "float32"}])
def test_rules_of_ones_own_are_checked_alike(changes):
    (key,) = changes
    with pytest.raises(fo.errors.HyperparameterError, match=f"`tilted`: `{key}` must be"):
        tilted(**{"upwards": True, **changes})
    with pytest.raises(fo.errors.HyperparameterError, match=f"`tilted`: `{key}` must be"):
        tilted(True).replace(**changes)


class Mine(optim.AdamW):
    """A class of a user's own."""


def test_a_derived_class_is_named():
    with pytest.raises(
        fo.errors.HyperparameterError, match=r"^`Mine`, in `scale_by_learning_rate`"
    ):
        Mine(parameters(), lr=-1.0)


def of_one_group(opt, **values):
    opt.param_groups[-1].update(values)
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    opt.step()


def groups(**second):
    (w, b) = parameters()
    return [{"params": [w]}, {"params": [b], **second}]


CALLS = {
    "a group of a class": (
        lambda: optim.AdamW(groups(betas=(0.9, 2.0))),
        "`AdamW`, in `scale_by_adam` of parameter group 1: `betas[1]` must lie in [0, 1), got 2.0.",
    ),
    "a group of a chain": (
        lambda: fo.Optimizer(groups(lr=-1.0), fo.adamw()),
        "`Optimizer`, in `scale_by_learning_rate` of parameter group 1: `lr` must not be negative, "
        "got -1.0.",
    ),
    "a group added later": (
        lambda: optim.SGD(groups()[:1]).add_param_group({"params": parameters(), "lr": -1.0}),
        "`SGD`, in `scale_by_learning_rate` of parameter group 1: `lr` must not be negative, got "
        "-1.0.",
    ),
    "a group changed in training": (
        lambda: of_one_group(optim.SGD(groups()), momentum=-1.0),
        "`SGD`, in `trace` of parameter group 1: `momentum` must not be negative, got -1.0.",
    ),
    "with_hyperparams": (
        lambda: fo.with_hyperparams(fo.adamw(), {"betas": (0.9, 2.0)}),
        "`with_hyperparams`, in `scale_by_adam`: `betas[1]` must lie in [0, 1), got 2.0.",
    ),
    "scheduled": (
        lambda: fo.scheduled(fo.adamw(), lr=-1.0),
        "`scheduled`, in `scale_by_learning_rate`: `lr` must not be negative, got -1.0.",
    ),
    "an argument that a stage calls otherwise": (
        lambda: fo.muon(adamw_lr=-1.0),
        "`muon`, in `scale_by_learning_rate`: `adamw_lr` must not be negative, got -1.0.",
    ),
    "an entry of a tuple that is taken apart": (
        lambda: fo.adafactor(eps=(None, -1.0)),
        "`adafactor`, in `scale_by_param_block_rms`: `eps[1]` must not be negative, got -1.0.",
    ),
    "a label that is missing": (
        lambda: fo.Optimizer(groups(), fo.partition({"matrix": fo.sgd()}, by_dimension)),
        "`Optimizer`, in `partition`: parameter `h.bias` has the label 'rest', and there are only "
        "transformations for ['matrix'].",
    ),
    "a module for a number": (
        lambda: fo.adamw(torch.nn.Linear(1, 1)),
        "`adamw`, in `scale_by_learning_rate`: `lr` must be a number, got the module `Linear`. A "
        "transformation is made without parameters; they are given to `init`, or to an optimizer.",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_was_called_stands_in_front(call):
    make, sentence = CALLS[call]
    with pytest.raises(fo.errors.FuncoptError) as caught:
        make()
    assert str(caught.value) == sentence
