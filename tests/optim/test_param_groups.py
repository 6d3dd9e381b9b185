"""Groups by name, and parameters that go or change their shape."""

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        x = self.embedding(x)
        for layer in self.layers:
            x = layer(x).tanh()
        return self.norm(x)


def net():
    torch.manual_seed(0)
    return Net()


def names_of(group):
    return [name for name, _ in group["params"]]


def train(model, opt, steps=3):
    for _ in range(steps):
        opt.zero_grad()
        model(torch.arange(5)).square().mean().backward()
        opt.step()


def test_the_first_rule_that_fits_counts_and_equal_options_share_a_group():
    model = net()
    groups = optim.param_groups_by(
        [
            (r"\.bias$|norm", {"weight_decay": 0.0}),
            (nn.Embedding, {"lr": 0.5}),
            (lambda name, p: p.ndim == 2, {}),
        ],
        model,
    )
    assert [names_of(group) for group in groups] == [
        ["embedding.weight"],
        ["layers.0.weight", "layers.1.weight"],
        ["layers.0.bias", "layers.1.bias", "norm.weight", "norm.bias"],
    ]
    opt = optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in opt.param_groups] == [
        (0.5, 0.1),
        (1e-3, 0.1),
        (1e-3, 0.0),
    ]


def test_a_rule_that_fits_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"'\^nrom' fits none of the parameters"):
        optim.param_groups_by([("^nrom", {"lr": 0.0})], net())


def test_frozen_parameters_come_to_no_group():
    model = net().requires_grad_(False)
    model.norm.requires_grad_(True)
    (group,) = optim.param_groups_by([(r"bias", {})], model)
    assert names_of(group) == ["norm.weight", "norm.bias"]


def test_no_decay_on_norms_biases_and_embeddings():
    groups = optim.param_groups_by(optim.param_groups_weight_decay(net()), net())
    decayed = [name for g in groups if "weight_decay" not in g for name in names_of(g)]
    assert decayed == ["layers.0.weight", "layers.1.weight"]
    linear = nn.Linear(2, 2, bias=False)
    assert optim.param_groups_weight_decay(linear) == []


def test_the_rate_falls_from_layer_to_layer():
    def layer_of(name):
        if name.startswith("layers."):
            return 1 + int(name.split(".")[1])
        return 0 if name.startswith("embedding") else 3

    groups = optim.param_groups_layer_decay(net(), 1.0, 0.5, layer_of)
    assert [group["lr"] for group in groups] == [0.125, 0.25, 0.5, 1.0]
    assert names_of(groups[0]) == ["embedding.weight"]


@pytest.mark.parametrize("decay", [-2, 0.0, 1.5])
def test_a_rate_that_would_turn_or_grow_is_refused(decay):
    wrong = rf"^`param_groups_layer_decay`: `decay` must lie in \(0, 1\], got {decay}.$"
    with pytest.raises(fo.errors.HyperparameterError, match=wrong):
        optim.param_groups_layer_decay(net(), 1.0, decay, len)
    with pytest.raises(fo.errors.HyperparameterError, match="`lr` must not be negative"):
        optim.param_groups_layer_decay(net(), -1.0, 0.5, len)


def test_the_table_says_who_is_where():
    groups = optim.param_groups_by([(r"bias", {"weight_decay": 0.0})], nn.Linear(2, 3))
    table = optim.explain(optim.SGD(groups, lr=0.1, weight_decay=0.5)).splitlines()
    assert table[1].split("  ")[0] == "weight"
    assert "(3, 2)" in table[1]
    assert "lr=0.1" in table[1]
    assert "weight_decay=0.5" in table[1]
    assert "weight_decay=0.0" in table[2]


def test_a_dropped_parameter_stands_still_and_its_state_is_gone():
    model = net()
    opt = optim.AdamW(model.named_parameters())
    train(model, opt)
    p = model.norm.bias
    opt.drop("norm.bias")
    before = p.detach().clone()
    train(model, opt)
    assert torch.equal(p, before)
    assert p not in opt.state
    with pytest.raises(ValueError, match=r"no parameter 'norm\.bias'"):
        opt.drop("norm.bias")


def test_rows_that_survive_keep_their_moments_exactly():
    model = net()
    opt = optim.AdamW(model.named_parameters())
    train(model, opt)
    old = model.layers[0].bias
    state = {key: value.clone() for key, value in opt.state[old].items()}
    new = nn.Parameter(torch.zeros(5))
    opt.resize("layers.0.bias", new, torch.tensor([2, 0, -1, 3, -1]))
    assert old not in opt.state
    for key in ("exp_avg", "exp_avg_sq"):
        kept = opt.state[new][key]
        assert torch.equal(kept[[0, 1, 3]], state[key][[2, 0, 3]])
        assert torch.equal(kept[[2, 4]], torch.zeros(2))
    assert opt.state[new]["step"] == state["step"]
    new.grad = torch.ones(5)
    opt.step()
    assert opt.state[new]["step"] == 4


def test_a_map_that_does_not_fit_changes_nothing():
    model = net()
    opt = optim.AdamW(model.named_parameters())
    train(model, opt)
    with pytest.raises(ValueError, match="index_map"):
        opt.resize("norm.bias", nn.Parameter(torch.zeros(2)), torch.tensor([0, 4]))
    assert model.norm.bias in opt.state


def test_columns_may_be_mapped_too():
    p = nn.Parameter(torch.zeros(2, 3))
    opt = fo.Optimizer([("w", p)], fo.chain(fo.trace(0.9), fo.scale(-0.1)))
    p.grad = torch.arange(6.0).reshape(2, 3)
    opt.step()
    new = nn.Parameter(torch.zeros(2, 2))
    opt.resize(p, new, torch.tensor([2, -1]), dim=1)
    assert opt.state[new]["momentum_buffer"].tolist() == [[2.0, 0.0], [5.0, 0.0]]


def test_a_resize_that_fails_changes_nothing():
    p = nn.Parameter(torch.zeros(4, 3))
    opt = optim.AdamW([("w", p)])
    p.grad = torch.ones(4, 3)
    opt.step()
    with pytest.raises(ValueError, match="only dimension 0 may change"):
        opt.resize("w", nn.Parameter(torch.zeros(5, 2)), torch.zeros(5, dtype=torch.long))
    assert opt.param_groups[0]["params"] == [p]
    assert set(opt.state[p]) == {"step", "exp_avg", "exp_avg_sq"}


def test_dimensions_may_be_counted_from_the_end():
    p, new = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 1))
    opt = optim.SGD([("w", p)], momentum=0.9)
    p.grad = torch.arange(6.0).reshape(2, 3)
    opt.step()
    opt.resize("w", new, torch.tensor([1]), dim=-1)
    assert opt.state[new]["momentum_buffer"].tolist() == [[1.0], [4.0]]


def is_matrix(name, p):
    return p.ndim == 2


def test_the_last_parameter_of_a_label_can_be_dropped():
    tx = fo.skip_if(
        fo.partition({"a": fo.adamw(0.1), "b": fo.sgd(0.1)}, [(is_matrix, "a"), (r".*", "b")])
    )
    model = nn.Linear(2, 2)
    opt = fo.Optimizer(model.named_parameters(), tx)
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
        opt.step()
        if "bias" in opt.param_groups[-1]["param_names"]:
            opt.drop("bias")


def test_a_choice_may_be_by_identity_and_a_partition_stand_in_a_mask():
    model = nn.Linear(2, 2)
    chosen = {id(model.weight)}
    inner = fo.partition({"x": fo.trace(0.9)}, [(r"weight", "x")])
    tx = fo.chain(
        fo.masked(fo.trace(0.5), lambda name, p: id(p) in chosen and p.requires_grad),
        fo.masked(inner, r"weight"),
        fo.scale(-0.1),
    )
    opt = fo.Optimizer(model.named_parameters(), tx)
    model(torch.ones(1, 2)).sum().backward()
    opt.step()
    assert "trace_2/momentum_buffer" in opt.state[model.weight]
    assert set(opt.state[model.bias]) == {"step"}


def test_groups_of_a_class_made_of_a_lambda_may_differ_in_numbers():
    cls = optim.optimizer_class(
        "Masked",
        lambda lr=0.1, weight_decay=0.1: fo.chain(
            fo.masked(fo.add_decayed_weights(weight_decay), lambda name, p: p.ndim > 1), fo.sgd(lr)
        ),
    )
    a, b = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1, 1))
    opt = cls([{"params": [a]}, {"params": [b], "lr": 0.5}])
    a.grad = b.grad = torch.ones(1, 1)
    opt.step()
    assert (a.item(), b.item()) == pytest.approx((1 - 0.11, 1 - 0.55))


def test_groups_that_have_come_to_differ_in_more_than_numbers_are_refused():
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    opt = fo.optim.AdamW([{"params": [a]}, {"params": [b]}], lr=0.1)
    for p in (a, b):
        p.grad = torch.ones(3)
    opt.step()
    opt.param_groups[0]["amsgrad"] = True
    opt.param_groups[1]["lr"] = 0.2
    with pytest.raises(fo.errors.HyperparameterError, match="`amsgrad` of stage 0 must be"):
        opt.step()
