"""Optimizers by name: ours, and those of other libraries' configuration files."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._hints.torch import CLASSES
from funcopt.errors import HyperparameterError

from ..frameworks import needed

TIMM = [
    "sgd",
    "momentum",
    "sgdp",
    "sgdw",
    "adam",
    "adamw",
    "adamwlegacy",
    "adamp",
    "nadam",
    "nadamlegacy",
    "nadamw",
    "radam",
    "radamlegacy",
    "radamw",
    "adamax",
    "adafactor",
    "adafactorbv",
    "adopt",
    "adoptw",
    "lamb",
    "lambc",
    "lambw",
    "lambcw",
    "lars",
    "larc",
    "nlars",
    "nlarc",
    "adamc",
    "nadamc",
    "sgdc",
    "adoptc",
    "lambcd",
    "kronc",
    "lionc",
    "lapropc",
    "rmsproptfc",
    "novogradc",
    "adafactorbvc",
    "cadamc",
    "cadoptc",
    "cnadamc",
    "csgdc",
    "clionc",
    "cadafactorbvc",
    "cadafactor",
    "cadafactorbv",
    "cadamw",
    "cadopt",
    "cadan",
    "cadanw",
    "cadoptw",
    "clamb",
    "clambw",
    "claprop",
    "clion",
    "cmars",
    "cnadamw",
    "crmsproptf",
    "csgdw",
    "cadamp",
    "csgdp",
    "adabelief",
    "radabelief",
    "adadelta",
    "adagrad",
    "adan",
    "adanw",
    "adahessian",
    "kron",
    "kronw",
    "laprop",
    "lion",
    "madgrad",
    "madgradw",
    "mars",
    "muon",
    "nmuon",
    "adamuon",
    "nadamuon",
    "novograd",
    "novogradw",
    "rmsprop",
    "rmsproptf",
    "rmsproptfw",
    "fusedsgd",
    "fusedadam",
    "fusedadamw",
    "fusedlamb",
    "fusednovograd",
    "bnbsgd",
    "bnbsgd8bit",
    "bnbadam",
    "bnbadam8bit",
    "bnbadamw",
    "bnbadamw8bit",
]
"""Of timm 1.0.31, which needs torchvision to be imported."""


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


def stepped(opt, model, count=3):
    for k in range(count):
        x = torch.randn(6, 5, generator=torch.manual_seed(k))
        opt.zero_grad()
        model(x).square().mean().backward()
        opt.step()
    return [p.detach() for p in model.parameters()]


def served(name):
    try:
        optim.create(name, net())
    except HyperparameterError:
        return False
    return True


@pytest.mark.parametrize("cls", sorted(CLASSES))
def test_every_class_and_its_function_are_names(cls):
    for name in (cls, cls.lower(), CLASSES[cls], CLASSES[cls].replace("_", "-")):
        assert type(optim.create(name, net())).__name__ == cls


def test_the_list_has_every_class_with_a_line():
    found = optim.list()
    assert set(found) == set(CLASSES)
    assert found["AdamW"].startswith("AdamW: scale_by_adam")
    assert all(line.endswith(".") and "`" not in line for line in found.values())


def test_options_are_those_of_the_class():
    model, other = net(), net()
    opt = optim.create("adam_w", model.parameters(), lr=0.1, weight_decay=0.3)
    same = optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.3)
    for p, q in zip(stepped(opt, model), stepped(same, other), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("name", "cls", "options"),
    [
        ("adamw_torch_fused", "AdamW", {}),
        ("adamw_bnb_8bit", "AdamW", {"quantized": "8bit"}),
        ("paged_lion_32bit", "Lion", {}),
        ("paged_ademamix_8bit", "AdEMAMix", {"quantized": "8bit"}),
        ("adamw_torch_4bit", "AdamW", {"quantized": "4bit"}),
        ("adamw_anyprecision", "AdamW", {"rounding": "kahan"}),
        ("rmsprop_bnb", "RMSprop", {}),
        ("fusedlamb", "LAMB", {}),
        ("bnbsgd8bit", "SGD", {"quantized": "8bit"}),
        ("nadamlegacy", "NAdam", {}),
        ("nesterov", "SGD", {"momentum": 0.9, "nesterov": True}),
        ("lomo", "SGDW", {}),
        ("adalomo", "T5Adafactor", {"lr": 1e-3, "relative_step": False}),
    ],
)
def test_names_of_others_stand_for_options(name, cls, options):
    opt = optim.create(name, net())
    assert type(opt).__name__ == cls
    same = getattr(optim, cls)(net().named_parameters(), **options)
    assert repr(opt) == repr(same)
    for key, value in options.items():
        assert optim.create(name, net(), **{key: value}).defaults.get(key, value) == value


def test_an_option_that_is_given_counts_before_that_of_the_name():
    assert optim.create("momentum", net(), momentum=0.5).param_groups[0]["momentum"] == 0.5


def test_cautious_names_mask_before_the_decay():
    """As timm does it: `test_parity_authors` has the chain."""
    model, other = net(), net()
    opt = optim.create("cadamw", model, lr=0.1, weight_decay=0.3)
    chain = fo.chain(
        fo.cautious(fo.scale_by_adam()),
        fo.add_decayed_weights(0.3),
        fo.scale_by_learning_rate(0.1),
    )
    same = fo.Optimizer(other.named_parameters(), chain)
    for p, q in zip(stepped(opt, model), stepped(same, other), strict=True):
        assert torch.equal(p, q)
    opt.param_groups[0]["lr"] = 0.0
    before = [p.clone() for p in stepped(opt, model, 1)]
    for p, q in zip(stepped(opt, model, 1), before, strict=True):
        assert torch.equal(p, q)


def test_corrected_names_decay_by_the_square_of_the_learning_rate():
    model, other = net(), net()
    opt = optim.create("clionc", model, lr=0.1, weight_decay=0.3)
    chain = fo.chain(fo.cautious(fo.scale_by_lion()), fo.scale_by_learning_rate_and_decay(0.1, 0.3))
    same = fo.Optimizer(other.named_parameters(), chain)
    for one in (opt, same):
        torch.optim.lr_scheduler.ExponentialLR(one, 0.5)
    for p, q in zip(stepped(opt, model), stepped(same, other), strict=True):
        assert torch.equal(p, q)
    decayed = optim.create("sgdc", net(), weight_decay=0.3)
    assert "scale_by_learning_rate_and_decay" in repr(decayed.tx)


def count_of(names):
    return sum(map(served, names))


def test_names_of_hugging_face():
    OptimizerNames = needed("transformers.training_args").OptimizerNames
    missing = {x.value for x in OptimizerNames if not served(x.value)}
    assert not missing


def test_names_of_timm():
    assert len(TIMM) == 95
    assert count_of(TIMM) >= 79


def test_names_of_pytorch_optimizer():
    import pytorch_optimizer

    names = pytorch_optimizer.get_supported_optimizers()
    assert len(names) == 128
    assert count_of(names) >= 66


def test_what_is_unknown_is_an_error_that_says_what_was_meant():
    for name, meant in (("adamww", "AdamW"), ("lionn", "Lion"), ("cadammm", None)):
        with pytest.raises(HyperparameterError, match=r"`create`: there is no optimizer") as error:
            optim.create(name, net())
        assert meant is None or f"Did you mean '{meant}'" in str(error.value)
    for name in ("cadafactor", "cadamp", "csgdp"):  # whose decay is inside of their rule
        with pytest.raises(HyperparameterError, match="no cautious form"):
            optim.create(name, net())


def test_a_name_is_a_word():
    with pytest.raises(HyperparameterError, match="`create`: `name` must be a name, got <class"):
        optim.create(optim.AdamW, net())
