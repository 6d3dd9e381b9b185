"""What torch's wrappers put into the names of a model's parameters is no part of these names."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import funcopt as fo
from funcopt import optim
from funcopt._numerics.names import plain_name, plain_names
from funcopt.errors import LabelError, StructureError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.fc = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.hidden(self.embed(x).tanh()).tanh())


def inner_checkpointed(net):
    net.hidden = checkpoint_wrapper(net.hidden)
    return net


WRAPPERS = {
    "compile": lambda net: torch.compile(net, backend="eager"),
    "data parallelism": nn.DataParallel,
    "both": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    "activation checkpointing": inner_checkpointed,
    "averages": torch.optim.swa_utils.AveragedModel,
}
PREFIXES = ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."]
NAMES = ["embed.weight", "embed.bias", "hidden.weight", "hidden.bias", "fc.weight", "fc.bias"]

every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def net():
    torch.manual_seed(0)
    return Net()


def with_gradients(params, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


def step(opt, seed=0):
    with_gradients([p for group in opt.param_groups for p in group["params"]], seed)
    opt.step()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# The names

EXAMPLES = {
    "{}fc.weight": "fc.weight",
    "encoder.{}layers.0.weight": "encoder.layers.0.weight",
    "actor/{}fc.weight": "actor/fc.weight",
    "{0}{0}a.{0}b": "a.b",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_wrapper_is_left_out_wherever_it_stands(prefix):
    for given, plain in EXAMPLES.items():
        assert plain_name(given.format(prefix)) == plain


@pytest.mark.parametrize(
    "name", [None, "", "module", "a.module", "submodule.a", "modules.module_0"]
)
def test_other_names_stay_as_they_are(name):
    assert plain_name(name) == name


def test_names_that_would_be_one_stay_apart():
    names = ["a.weight", "a.module.weight", "_orig_mod.b", None, None]
    assert plain_names(names) == ["a.weight", "a.module.weight", "b", None, None]


# Labels and patterns


@every_wrapper
def test_the_wrapped_model_has_the_labels_of_the_model(wrap):
    def labels(model):
        groups = optim.Muon(model.named_parameters()).param_groups
        return {plain_name(n): g["name"] for g in groups for n in g["param_names"]}

    assert labels(wrap(net())) == labels(net())
    assert labels(net())["fc.weight"] == "adamw"


CHOICES = {
    "a pattern": [(r"^fc\.", "a"), (r"", "b")],
    "a predicate": [(lambda name, p: name.startswith("fc."), "a"), (r"", "b")],
    "a function": lambda name, p: "a" if name.startswith("fc.") else "b",
    "a tree": {name: "a" if name.startswith("fc.") else "b" for name in NAMES},
}


@pytest.mark.parametrize("labels", CHOICES.values(), ids=CHOICES)
@every_wrapper
def test_labels_are_those_of_the_model(labels, wrap):
    tx = fo.partition({"a": fo.sgd(1.0), "b": fo.freeze()}, labels)
    model = wrap(net())
    opt = fo.Optimizer(model.named_parameters(), tx)
    params = {plain_name(name): p for name, p in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in params.items()}
    step(opt)
    moved = {name for name, p in params.items() if not torch.equal(p, before[name])}
    assert moved == {"fc.weight", "fc.bias"}
    given = {name: p.detach() for name, p in model.named_parameters()}
    updates, _ = tx.update(given, tx.init(given), given)
    moved = {plain_name(name) for name, u in updates.items() if u.any()}
    assert moved == {"fc.weight", "fc.bias"}


def test_a_tree_of_labels_may_have_the_names_of_the_wrapped_model():
    given = {"_orig_mod." + name: torch.ones(2) for name in NAMES}
    tx = fo.partition({"a": fo.sgd(1.0), "b": fo.freeze()}, dict.fromkeys(given, "a"))
    for params in (given, {plain_name(name): p for name, p in given.items()}):
        assert all(u.all() for u in fo.tree.leaves(tx.update(params, tx.init(params), params)[0]))


@every_wrapper
def test_masks_fit_the_names_of_the_model(wrap):
    model = wrap(net())
    opt = fo.Optimizer(model.named_parameters(), fo.chain(fo.sgd(0.1), fo.freeze(r"^fc\.")))
    before = [p.detach().clone() for p in model.parameters()]
    step(opt)
    stood = [torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    assert stood == [plain_name(name).startswith("fc.") for name, _ in model.named_parameters()]


def test_a_pattern_that_fits_nothing_is_told_the_names_of_the_model():
    model = torch.compile(net(), backend="eager")
    with pytest.raises(LabelError, match=re.escape("['embed.weight', 'embed.bias'")):
        fo.Optimizer(model.named_parameters(), fo.chain(fo.sgd(0.1), fo.freeze(r"_orig_mod")))


def test_hidden_weights_by_hand():
    labels, p = fo.hidden_weights(), torch.ones(2, 2)
    assert labels("_orig_mod.fc.weight", p) == labels("fc.weight", p) == "adamw"


def by_patterns(model):
    return optim.param_groups_by([(r"^fc\.", {"lr": 0.1}), (r"^hidden.*bias$", {"lr": 0.2})], model)


def by_decay(model):
    return optim.param_groups_weight_decay(model, no_weight_decay_list=["fc.*", "hidden.weight"])


def by_layers(model):
    layer = {name: i for i, name in enumerate(NAMES)}
    return optim.param_groups_layer_decay(model, lr=1.0, layer_of=lambda name: layer[name])


@pytest.mark.parametrize("make", [by_patterns, by_decay, by_layers])
@every_wrapper
def test_groups_are_those_of_the_model(make, wrap):
    def groups(model):
        found = []
        for group in make(model):
            options = {k: v for k, v in group.items() if k != "params"}
            found.append((options, [plain_name(name) for name, _ in group["params"]]))
        return found

    assert groups(wrap(net())) == groups(net())


@every_wrapper
def test_the_parameters_that_are_trained(wrap):
    state = fo.split_module(wrap(net()), r"^fc\.")
    assert set(map(plain_name, state.params)) == {"fc.weight", "fc.bias"}
    with pytest.raises(LabelError, match=r"\['embed.weight', "):
        fo.split_module(wrap(net()), "_orig_mod")


# Random numbers go by names


@every_wrapper
def test_noise_is_that_of_the_model(wrap):
    def noisy(model):
        opt = fo.Optimizer(model.named_parameters(), fo.noisy_sgd(0.1))
        step(opt)
        return [p.detach() for p in model.parameters()]

    def purely(model):
        params, tx = {n: p.detach() for n, p in model.named_parameters()}, fo.noisy_sgd(0.1)
        return list(tx.update(params, tx.init(params), params)[0].values())

    for made in (noisy, purely):
        assert equal(made(wrap(net())), made(net()))


def test_parameters_that_only_differ_by_a_wrapper_have_noise_of_their_own():
    params = {"a.weight": torch.zeros(3), "a.module.weight": torch.zeros(3)}
    tx = fo.noisy_sgd(0.1)
    one, other = tx.update(params, tx.init(params), params)[0].values()
    assert not torch.equal(one, other)
    named = {name: nn.Parameter(p) for name, p in params.items()}
    step(fo.Optimizer(named.items(), fo.chain(fo.scale(0.0), tx)))
    one, other = named.values()
    assert not torch.equal(one, other)
    step_of = fo.donated(tx)
    moved, _ = step_of(params, dict(params), tx.init(params))
    one, other = moved.values()
    assert not torch.equal(one, other)


# Checkpoints


@pytest.mark.parametrize("make", [optim.AdamW, optim.Muon])
@every_wrapper
def test_checkpoints_of_the_model_and_of_the_wrapped_one_are_each_others(make, wrap):
    plain = net()
    wrapped = wrap(copy.deepcopy(plain))
    here, there = make(plain.named_parameters()), make(list(wrapped.named_parameters())[::-1])
    params = {plain_name(name): p for name, p in wrapped.named_parameters()}
    for seed in range(2):
        step(here, seed)
    for name, p in plain.named_parameters():
        params[name].data.copy_(p.data)
    names = [group["param_names"] for group in there.param_groups]
    there.load_state_dict(here.state_dict())
    assert [group["param_names"] for group in there.param_groups] == names
    for _ in range(2):
        with_gradients(plain.parameters())
        for name, p in plain.named_parameters():
            params[name].grad = p.grad.clone()
        here.step()
        there.step()
    assert equal([params[name] for name in NAMES], plain.parameters())
    here.load_state_dict(there.state_dict())
    for name, p in plain.named_parameters():
        for key, value in there.state[params[name]].items():
            assert torch.equal(here.state[p][key], value)


def test_parameters_that_only_differ_by_a_wrapper_are_told_apart():
    def made(names, value):
        params = [nn.Parameter(torch.zeros(2)) for _ in names]
        opt = optim.SGD(list(zip(names, params, strict=True)), lr=1.0, momentum=0.9)
        for p in params:
            p.grad = torch.full((2,), value)
            value *= 2
        opt.step()
        return opt, params

    one, (a, b) = made(["a.weight", "a.module.weight"], 1.0)
    other, (b_, a_) = made(["a.module.weight", "a.weight"], 8.0)
    other.load_state_dict(one.state_dict())
    for mine, theirs in ((a, a_), (b, b_)):
        assert torch.equal(
            one.state[mine]["momentum_buffer"], other.state[theirs]["momentum_buffer"]
        )


@every_wrapper
def test_states_of_the_pure_form_are_each_others(wrap):
    tx = fo.adamw(0.1)
    plain = {name: p.detach() for name, p in net().named_parameters()}
    wrapped = {name: p.detach() for name, p in wrap(net()).named_parameters()}
    _, state = tx.update(plain, tx.init(plain), plain)
    there = fo.load_state_dict(tx.init(wrapped), fo.state_dict(state))
    assert equal(fo.tree.leaves(there), fo.tree.leaves(state))
    here = fo.load_state_dict(tx.init(plain), fo.state_dict(there))
    assert equal(fo.tree.leaves(here), fo.tree.leaves(state))


@pytest.mark.parametrize("name", ["fc.bias", "_orig_mod.fc.bias"])
def test_a_parameter_is_found_by_either_name(name):
    model = torch.compile(net(), backend="eager")
    opt = optim.AdamW(model.named_parameters())
    new = nn.Parameter(torch.zeros(3))
    opt.resize(name, new, torch.tensor([0, 1, -1]))
    assert any(p is new for p in opt.param_groups[0]["params"])
    opt.drop(name)
    assert opt.param_groups[0]["param_names"] == ["_orig_mod." + x for x in NAMES[:-1]]
    with pytest.raises(StructureError, match="no parameter"):
        opt.drop(name)
