"""Groups by name, and parameters that go or change their shape."""

import pytest
import torch
from torch import nn

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LabelError


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


def decays(groups):
    """The weight decay of every parameter; `None` where the optimizer says."""
    return {name: group.get("weight_decay") for group in groups for name in names_of(group)}


def test_norms_and_biases_do_not_decay():
    groups = optim.param_groups_weight_decay(net(), 0.1)
    assert [group["name"] for group in groups] == ["no_decay", "decay"]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.1]
    matrices = ["embedding.weight", "layers.0.weight", "layers.1.weight"]
    assert names_of(groups[1]) == matrices
    opt = optim.AdamW(groups, lr=1e-3, weight_decay=0.5)
    assert [group["weight_decay"] for group in opt.param_groups] == [0.0, 0.1]
    assert opt.param_groups[1]["param_names"] == matrices


def test_without_a_number_the_weight_decay_is_that_of_the_optimizer():
    opt = optim.AdamW(optim.param_groups_weight_decay(net()), weight_decay=0.5)
    assert [group["weight_decay"] for group in opt.param_groups] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("entry", "fitting"),
    [
        ("embedding.weight", {"embedding.weight"}),
        ("layers.*", {"layers.0.weight", "layers.1.weight"}),
        (nn.Embedding, {"embedding.weight"}),
        ((nn.Embedding, nn.LayerNorm), {"embedding.weight"}),
        (lambda name, p: p.shape == (5, 4), {"embedding.weight"}),
    ],
)
def test_further_parameters_without_decay_by_name_class_or_predicate(entry, fitting):
    matrices = {"embedding.weight", "layers.0.weight", "layers.1.weight"}
    of = decays(optim.param_groups_weight_decay(net(), 0.1, [entry]))
    assert {name for name in matrices if of[name] == 0.0} == fitting


def test_a_bias_of_any_shape_does_not_decay():
    model = nn.Module()
    model.attention = nn.Module()
    model.attention.bias = nn.Parameter(torch.zeros(2, 2))
    assert decays(optim.param_groups_weight_decay(model, 0.1)) == {"attention.bias": 0.0}


def test_one_group_is_enough_where_the_other_is_empty():
    assert [g["name"] for g in optim.param_groups_weight_decay(nn.Linear(2, 2, bias=False))] == [
        "decay"
    ]
    assert [g["name"] for g in optim.param_groups_weight_decay(nn.LayerNorm(2))] == ["no_decay"]


BOTH = [
    optim.param_groups_weight_decay,
    lambda *a, **k: optim.param_groups_layer_decay(*a, lr=1.0, **k),
]
each_function = pytest.mark.parametrize("function", BOTH, ids=["weight_decay", "layer_decay"])


@each_function
def test_frozen_and_tied_parameters_are_in_no_group_twice(function):
    model = net()
    model.head = nn.Linear(4, 5, bias=False)
    model.head.weight = model.embedding.weight
    model.layers[0].requires_grad_(False)
    found = [name for group in function(model) for name in names_of(group)]
    assert sorted(found) == [
        "embedding.weight",
        "layers.1.bias",
        "layers.1.weight",
        "norm.bias",
        "norm.weight",
    ]
    assert function(net().requires_grad_(False)) == []


@each_function
def test_an_entry_that_fits_nothing_is_an_error(function):
    wrong = r"'norm' of `no_weight_decay_list` fits none of the parameters \['embedding.weight', "
    with pytest.raises(LabelError, match=wrong):
        function(net(), no_weight_decay_list=["norm"])
    with pytest.raises(HyperparameterError, match=r"must be a list, got 'norm': write \['norm'\]"):
        function(net(), no_weight_decay_list="norm")


@each_function
def test_names_that_the_model_lists_itself_may_be_missing(function):
    model = net()
    model.no_weight_decay = lambda: {"embedding.weight", "dist_token"}  # of another variant
    listed = model.no_weight_decay()
    assert decays(function(model, no_weight_decay_list=listed))["embedding.weight"] == 0.0
    with pytest.raises(LabelError, match="'dist_tokem'"):
        function(model, no_weight_decay_list=["dist_tokem"])


@each_function
def test_a_negative_weight_decay_is_refused(function):
    with pytest.raises(HyperparameterError, match="`weight_decay` must not be negative"):
        function(net(), weight_decay=-0.1)


def test_layers_and_decay_in_one_call():
    groups = optim.param_groups_layer_decay(net(), lr=1.0, layer_decay=0.5, weight_decay=0.1)
    opt = optim.AdamW(groups)
    assert [
        (g["name"], g["lr"], g["weight_decay"], g["param_names"]) for g in opt.param_groups
    ] == [
        ("layer_0_decay", 0.125, 0.1, ["embedding.weight"]),
        ("layer_1_no_decay", 0.25, 0.0, ["layers.0.bias"]),
        ("layer_1_decay", 0.25, 0.1, ["layers.0.weight"]),
        ("layer_2_no_decay", 0.5, 0.0, ["layers.1.bias"]),
        ("layer_2_decay", 0.5, 0.1, ["layers.1.weight"]),
        ("layer_3_no_decay", 1.0, 0.0, ["norm.weight", "norm.bias"]),
    ]


def test_vectors_may_decay_too():
    groups = optim.param_groups_layer_decay(net(), lr=1.0, weight_decay_exclude_1d=False)
    assert [group["name"] for group in groups] == [f"layer_{i}_decay" for i in range(4)]
    assert all("weight_decay" not in group for group in groups)


def test_a_frozen_last_layer_leaves_the_rates_of_the_others():
    model = net()
    model.norm.requires_grad_(False)
    groups = optim.param_groups_layer_decay(model, lr=1.0, layer_decay=0.5)
    assert max(group["lr"] for group in groups) == 0.5


def test_the_factor_has_a_lower_bound():
    groups = optim.param_groups_layer_decay(net(), lr=2.0, layer_decay=0.5, min_scale=0.4)
    assert [group["lr"] for group in groups] == [0.8, 0.8, 0.8, 1.0, 1.0, 2.0]


def test_layers_may_be_told():
    def layer_of(name):
        return 1 if name.startswith("layers.") else 0

    groups = optim.param_groups_layer_decay(net(), lr=1.0, layer_decay=0.5, layer_of=layer_of)
    assert {group["name"]: group["lr"] for group in groups} == {
        "layer_0_no_decay": 0.5,
        "layer_0_decay": 0.5,
        "layer_1_no_decay": 1.0,
        "layer_1_decay": 1.0,
    }
    with pytest.raises(HyperparameterError, match="must return a whole number, got None for 'emb"):
        optim.param_groups_layer_decay(net(), lr=1.0, layer_of=lambda name: None)


def test_a_scheduler_moves_all_layers_and_a_checkpoint_goes_by_name():
    model, other = net(), net()
    opt = optim.AdamW(optim.param_groups_layer_decay(model, lr=1.0, layer_decay=0.5))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.1)
    train(model, opt)
    scheduler.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.0125)
    again = optim.AdamW(optim.param_groups_layer_decay(other, lr=1.0, layer_decay=0.5)[::-1])
    again.load_state_dict(opt.state_dict())
    assert again.param_groups[-1]["lr"] == opt.param_groups[0]["lr"]
    step = again.state[other.norm.bias]["exp_avg"]
    assert torch.equal(step, opt.state[model.norm.bias]["exp_avg"])


def test_a_learning_rate_may_be_a_tensor_and_no_schedule():
    groups = optim.param_groups_layer_decay(net(), lr=torch.tensor(1.0), layer_decay=0.5)
    assert groups[0]["lr"].item() == 0.125
    with pytest.raises(HyperparameterError, match="`lr` must be a number, got linear_schedule"):
        optim.param_groups_layer_decay(net(), lr=fo.linear_schedule(1.0, 0.0, 10))


@pytest.mark.parametrize("decay", [-2, 0.0, 1.5])
def test_a_rate_that_would_turn_or_grow_is_refused(decay):
    wrong = rf"^`param_groups_layer_decay`: `layer_decay` must lie in \(0, 1\], got {decay}.$"
    with pytest.raises(HyperparameterError, match=wrong):
        optim.param_groups_layer_decay(net(), lr=1.0, layer_decay=decay)
    with pytest.raises(HyperparameterError, match="`lr` must not be negative"):
        optim.param_groups_layer_decay(net(), lr=-1.0)


def test_the_arguments_of_timm_by_position_are_refused():
    """Its second one is the weight decay, and it has no learning rate."""
    with pytest.raises(TypeError):
        optim.param_groups_layer_decay(net(), 0.05)


def test_a_model_without_numbered_blocks_needs_to_be_told():
    model = nn.Module()
    model.fc1, model.fc2 = nn.Linear(2, 2), nn.Linear(2, 2)
    with pytest.raises(LabelError, match=r"no numbered block, .* in the names \['fc1.weight', "):
        optim.param_groups_layer_decay(model, lr=1.0)


LAYERS = {
    "ViT": {
        "cls_token": 0,
        "pos_embed": 0,
        "patch_embed.proj.weight": 0,
        "blocks.0.attn.qkv.weight": 1,
        "blocks.1.mlp.fc1.weight": 2,
        "blocks.11.mlp.fc1.weight": 3,  # the third that is there
        "norm.weight": 4,
        "head.weight": 4,
    },
    "GPT-2": {
        "transformer.wte.weight": 0,
        "transformer.wpe.weight": 0,
        "transformer.h.0.mlp.c_fc.weight": 1,
        "transformer.h.1.mlp.c_fc.weight": 2,
        "transformer.ln_f.weight": 3,
        "lm_head.weight": 3,
    },
    "BERT": {
        "bert.embeddings.LayerNorm.weight": 0,
        "bert.encoder.layer.0.output.dense.weight": 1,
        "bert.encoder.layer.1.output.dense.weight": 2,
        "bert.pooler.dense.weight": 3,
        "classifier.weight": 3,
    },
    "Llama, compiled": {
        "_orig_mod.model.embed_tokens.weight": 0,
        "_orig_mod.model.layers.0.mlp.up_proj.weight": 1,
        "_orig_mod.model.norm.weight": 2,
    },
    "Sequential": {"0.weight": 1, "0.bias": 1, "2.weight": 2, "4.weight": 3},
    "ResNet": {
        "conv1.weight": 0,
        "bn1.weight": 0,
        "layer1.0.conv1.weight": 1,
        "layer1.1.conv1.weight": 1,
        "layer2.0.downsample.0.weight": 2,
        "fc.weight": 3,
    },
    "a stem and a head with numbers of their own": {
        "stem.0.weight": 0,
        "stem.1.weight": 0,
        "stages.0.blocks.0.weight": 1,
        "stages.0.blocks.1.weight": 1,
        "stages.1.blocks.0.weight": 2,
        "head.0.weight": 3,
        "head.2.weight": 3,
    },
    "two towers of one length, as in T5": {
        "shared.weight": 0,
        "encoder.block.0.layer.0.q.weight": 1,
        "encoder.block.1.layer.1.wi.weight": 2,
        "encoder.final_layer_norm.weight": 2,
        "decoder.embed_tokens.weight": 0,
        "decoder.block.0.layer.0.q.weight": 1,
        "decoder.block.1.layer.1.wi.weight": 2,
        "decoder.final_layer_norm.weight": 3,
        "lm_head.weight": 3,
    },
    "a short stack before the long one, as in wav2vec 2": {
        "extractor.conv_layers.0.weight": 1,
        "extractor.conv_layers.1.weight": 2,
        "projection.weight": 2,
        "encoder.layers.0.weight": 1,
        "encoder.layers.1.weight": 2,
        "encoder.layers.2.weight": 3,
        "norm.weight": 4,
    },
    "a short decoder": {
        "encoder.0.weight": 1,
        "encoder.1.weight": 2,
        "encoder.2.weight": 3,
        "decoder.0.weight": 2,
        "decoder.1.weight": 3,
    },
}


def tree_of(names):
    model = nn.Module()
    for name in names:
        *path, last = name.split(".")
        at = model
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.register_parameter(last, nn.Parameter(torch.zeros(2, 2)))
    return model


@pytest.mark.parametrize("model", LAYERS)
def test_layers_are_found_by_the_numbered_blocks_in_the_names(model):
    groups = optim.param_groups_layer_decay(tree_of(LAYERS[model]), lr=1.0, layer_decay=0.5)
    found = {name: int(g["name"].split("_")[1]) for g in groups for name in names_of(g)}
    assert found == LAYERS[model]
    last = max(found.values())
    assert all(g["lr"] == 0.5 ** (last - int(g["name"].split("_")[1])) for g in groups)


def test_the_table_says_who_is_where():
    groups = optim.param_groups_by([(r"bias", {"weight_decay": 0.0})], nn.Linear(2, 3))
    _, first, second, *_ = optim.explain(optim.SGD(groups, lr=0.1, weight_decay=0.5)).split("\n\n")
    assert "weight     (3, 2)" in first
    assert "lr=0.1" in first
    assert "weight_decay=0.5" in first
    assert "weight_decay=0.0" in second


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


PARAMETRIZATIONS = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "its own": lambda m: nn.utils.parametrize.register_parametrization(m, "weight", nn.Tanh()),
    "two": lambda m: nn.utils.parametrize.register_parametrization(
        nn.utils.parametrizations.weight_norm(m), "weight", nn.Tanh()
    ),
}


def by_class(model):
    return optim.param_groups_by([(nn.Embedding, {"weight_decay": 0.0})], model)


def without_embeddings(model):
    return optim.param_groups_weight_decay(model, no_weight_decay_list=[nn.Embedding])


def layer_by_layer(model):
    return optim.param_groups_layer_decay(model, lr=1.0, no_weight_decay_list=[nn.Embedding])


@pytest.mark.parametrize("wrap", PARAMETRIZATIONS.values(), ids=PARAMETRIZATIONS)
@pytest.mark.parametrize("make", [by_class, without_embeddings, layer_by_layer])
def test_a_parametrized_module_holds_what_its_parameters_are_made_of(make, wrap):
    model = net()
    wrap(model.embedding)
    wrap(model.layers[0])
    free = {n for g in make(model) if g.get("weight_decay") == 0.0 for n in names_of(g)}
    own = {name for name, p in model.named_parameters() if p.ndim > 1 and name in free}
    assert own == {n for n, _ in model.named_parameters() if n.startswith("embedding.")} != set()
