"""`scale_by_muon`: momentum whose singular values are made equal; and who gets it."""

import copy
import functools
import inspect
import io
import itertools
import pickle

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import funcopt as fo
from funcopt import optim, testing
from funcopt._numerics import newton_schulz as iterations
from funcopt.errors import HyperparameterError, LabelError, LeafError

from .stepping import feed

SHAPES = [(5, 3), (3, 5), (7, 7), (4, 1), (1, 6), (40, 24)]
STEPS = 200
OPTIONS = {
    "lr": [0.02],
    "weight_decay": [0.1, 0.0],
    "momentum": [0.95, 0.5],
    "nesterov": [True, False],
    "ns_coefficients": [(3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5)],
    "ns_steps": [5, 2],
    "adjust_lr_fn": [None, "original", "match_rms_adamw"],
}
ROWS = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
ROWS = [row for i, row in enumerate(ROWS) if i % 5 == 0]  # all pairs of values, if not all rows
TorchsMuon = functools.partial(optim.Muon, labels="muon")
EXACT = {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 40, "ns_dtype": None}


def beginning(dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in SHAPES]


def gradient(p, t, i):
    """It depends on the parameter, so that errors do not average out."""
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return torch.sin(2.0 * p.detach() + entries + 0.7 * t + i)


def stepped(opt, params, steps=STEPS, missing=False, begin=0):
    for t in range(begin, begin + steps):
        for i, p in enumerate(params):
            p.grad = None if missing and (t + i) % 3 == 0 else gradient(p, t, i)
        opt.step()
    return [p.detach() for p in params]


def run(cls, missing=False, dtype=torch.float64, **options):
    params = [torch.nn.Parameter(p) for p in beginning(dtype)]
    return stepped(cls(params, **options), params, missing=missing)


def difference(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.fixture
def torchs_products(monkeypatch):
    """Products of bfloat16 as torch's class makes them: bits depend on the order of additions."""
    monkeypatch.setattr(iterations, "HAS_BFLOAT16_PRODUCTS", True)


as_torch = pytest.mark.usefixtures("torchs_products")


@as_torch
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_class_steps_as_torchs_class(options):
    assert difference(run(TorchsMuon, **options), run(torch.optim.Muon, **options)) <= 1e-12


@as_torch
def test_without_some_gradients_too():
    ours, theirs = (run(cls, missing=True, lr=0.02) for cls in (TorchsMuon, torch.optim.Muon))
    assert difference(ours, theirs) <= 1e-12


@as_torch
def test_the_defaults_are_torchs():
    assert difference(run(TorchsMuon), run(torch.optim.Muon)) <= 1e-12
    theirs = inspect.signature(torch.optim.Muon).parameters
    for ours in (inspect.signature(optim.Muon).parameters, inspect.signature(fo.muon).parameters):
        both = [key for key in theirs if key in ours]
        assert set(theirs) - set(both) <= {"params"}
        assert both == [key for key in ours if key in theirs]
        assert {k: ours[k].default for k in both} == {k: theirs[k].default for k in both}


@as_torch
def test_the_pure_form_steps_as_torchs_class():
    tx, params = fo.muon(0.02, labels="muon"), beginning()
    state = tx.init(params)
    for t in range(STEPS):
        grads = [gradient(p, t, i) for i, p in enumerate(params)]
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
    assert difference(params, run(torch.optim.Muon, lr=0.02)) <= 1e-12


@as_torch
def test_checkpoints_of_torch_load_here_and_ours_load_there():
    for classes in itertools.permutations((TorchsMuon, torch.optim.Muon)):
        expected, got = ([torch.nn.Parameter(p) for p in beginning()] for _ in range(2))
        one, other = (cls(ps, lr=0.02) for cls, ps in zip(classes, (expected, got), strict=True))
        stepped(one, expected, 10)
        other.load_state_dict(copy.deepcopy(one.state_dict()))
        for p, q in zip(got, expected, strict=True):
            p.data.copy_(q.data)
        assert (
            difference(stepped(one, expected, 10, begin=10), stepped(other, got, 10, begin=10))
            <= 1e-12
        )


@pytest.mark.parametrize("shape", [(5, 3), (40, 24), (96, 256), (3, 64, 32)], ids=str)
def test_products_of_bfloat16_may_be_made_in_float32(shape, monkeypatch):
    """They are rounded alike, and no less accurate: only the order of additions differs."""
    torch.manual_seed(0)
    x, given = torch.randn(shape), (5 * [(3.4445, -4.7750, 2.0315)], 1e-7)
    exact = iterations.newton_schulz(x.double(), *given, None)
    found = {}
    for has in (True, False):
        monkeypatch.setattr(iterations, "HAS_BFLOAT16_PRODUCTS", has)
        found[has] = iterations.newton_schulz(x, *given, torch.bfloat16)
        assert (found[has] == found[has].bfloat16()).all()
    errors = {has: (u - exact).square().mean().sqrt().item() for has, u in found.items()}
    assert 0 < errors[False] <= 1.25 * errors[True]


def test_bfloat16_is_what_torch_computes_in():
    torch.manual_seed(0)
    g = torch.randn(12, 8, dtype=torch.float64)
    (ours,), _ = feed(fo.scale_by_muon(0.0, nesterov=False), [g])
    expected = torch.optim._muon._zeropower_via_newtonschulz(g, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    assert torch.equal(ours, 1.5**0.5 * expected.double())
    (exact,), _ = feed(fo.scale_by_muon(0.0, nesterov=False, ns_dtype=None), [g])
    assert 1e-4 < (ours - exact).abs().max() < 0.05
    (single,), _ = feed(fo.scale_by_muon(0.0, nesterov=False, ns_dtype=torch.float32), [g])
    assert 0 < (single - exact).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_enough_steps_make_it_orthogonal(shape):
    torch.manual_seed(0)
    g = torch.randn(shape, dtype=torch.float64)
    (u,), _ = feed(fo.scale_by_muon(0.0, **EXACT), [g])
    left, _, right = torch.linalg.svd(g, full_matrices=False)
    ratio = max(1.0, shape[0] / shape[1]) ** 0.5
    torch.testing.assert_close(u, ratio * left @ right, rtol=0, atol=1e-9)


def test_with_the_usual_coefficients_singular_values_come_near_one():
    torch.manual_seed(0)
    (u,), _ = feed(fo.scale_by_muon(), [torch.randn(20, 30)])
    values = torch.linalg.svdvals(u)
    assert 0.5 < values.min() < values.max() < 1.3


def test_the_update_has_the_size_of_that_of_adamw():
    torch.manual_seed(0)
    (u,), _ = feed(fo.scale_by_muon(adjust_lr_fn="match_rms_adamw", **EXACT), [torch.randn(8, 50)])
    assert u.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize(
    ("ns_dtype", "tol"), [(None, 1e-12), (torch.float32, 3e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_a_batch_is_as_its_matrices_one_by_one(ns_dtype, tol):
    """Up to rounding, which grows by up to 3.4445 in each of five iterations."""
    torch.manual_seed(0)
    history = [torch.randn(2, 3, 4, 5, dtype=torch.float64) for _ in range(3)]
    together, _ = feed(fo.scale_by_muon(dims="batch", ns_dtype=ns_dtype), history)
    for i, j in itertools.product(range(2), range(3)):
        alone, _ = feed(fo.scale_by_muon(ns_dtype=ns_dtype), [g[i, j] for g in history])
        for u, v in zip(together, alone, strict=True):
            torch.testing.assert_close(u[i, j], v, rtol=tol, atol=tol)


def test_a_flattened_tensor_is_as_its_matrix():
    torch.manual_seed(0)
    history = [torch.randn(4, 3, 2, 2) for _ in range(3)]
    flat, _ = feed(fo.scale_by_muon(dims="flatten"), history)
    matrix, _ = feed(fo.scale_by_muon(), [g.reshape(4, 12) for g in history])
    assert all(torch.equal(u.reshape(4, 12), v) for u, v in zip(flat, matrix, strict=True))


@pytest.mark.parametrize("dims", ["batch", "flatten"])
def test_a_matrix_is_one_whatever_dims_says(dims):
    g = torch.randn(4, 3)
    assert torch.equal(
        feed(fo.scale_by_muon(dims=dims), [g])[0][0], feed(fo.scale_by_muon(), [g])[0][0]
    )


def test_what_is_no_matrix_is_refused_by_name():
    with pytest.raises(LeafError) as error:
        fo.scale_by_muon().init({"w": torch.zeros(2, 2), "b": torch.zeros(3)})
    assert str(error.value) == (
        "`scale_by_muon`: parameter `b` of shape (3,) must be a matrix. `muon` gives vectors to "
        "AdamW; `partition` and `masked` route parameters by name and shape."
    )
    conv = torch.nn.Conv2d(2, 3, 5)
    with pytest.raises(LeafError) as error:
        optim.Muon(conv.named_parameters(), labels="muon")
    assert str(error.value) == (
        "`Muon`, in `scale_by_muon`: parameter `weight` of shape (3, 2, 5, 5) must be a matrix, or "
        '`dims` must say what the matrices are: "batch" if they are its last two dimensions, '
        '"flatten" if all dimensions but the first are the columns of one.'
    )
    with pytest.raises(LeafError, match=r"`c` of shape \(2, 2\) must not be complex"):
        fo.scale_by_muon().init({"c": torch.zeros(2, 2, dtype=torch.complex64)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.0}, "`momentum` must lie in [0, 1), got 1.0."),
        ({"eps": -1.0}, "`eps` must not be negative, got -1.0."),
        ({"ns_steps": 100}, "`ns_steps` must be a whole number from 0 to 99, got 100."),
        ({"ns_coefficients": (1.0, 2.0)}, "`ns_coefficients` must be a tuple of 3 numbers, got "),
        (
            {"adjust_lr_fn": "adam"},
            "`adjust_lr_fn` must be one of None, 'original', 'match_rms_adamw', 'rms_to_rms', "
            "'spectral', 'unscaled', got 'adam'.",
        ),
        ({"dims": 2}, "`dims` must be one of None, 'batch', 'flatten', got 2."),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_muon(**fields)
    assert str(error.value).startswith(f"`scale_by_muon`: {message}")


def test_derivatives_by_all_numbers_are_those_of_differences():
    torch.manual_seed(0)
    g = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    numbers = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.9, 2.0, -1.5, 0.5)
    ]

    def update(g, momentum, *abc):
        tx = fo.scale_by_muon(momentum, ns_coefficients=abc, ns_steps=2, ns_dtype=None)
        return feed(tx, list(g))[0][-1]

    assert torch.autograd.gradcheck(update, (g, *numbers))


NUMBERS = torch.linspace(-1.0, 1.3, 24)
MATRICES = {"w": NUMBERS[:6].reshape(2, 3), "v": [NUMBERS[6:12].reshape(3, 2)]}


@pytest.mark.parametrize(
    "tx",
    [
        fo.scale_by_muon(ns_dtype=None),
        fo.scale_by_muon(nesterov=False, ns_dtype=None, dims="batch"),
        fo.scale_by_muon(adjust_lr_fn="match_rms_adamw", ns_dtype=None, dims="flatten"),
    ],
    ids=str,
)
def test_it_keeps_the_laws_alone(tx):
    """In the table of cases it stands in a partition, beside what takes vectors."""
    batch = {} if tx.dims is None else {"batch": NUMBERS[12:].reshape(2, 3, 2)}
    testing.check_transformation(tx, {**MATRICES, **batch})


@pytest.mark.parametrize("law", testing.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("ns_dtype", [torch.bfloat16, torch.float32], ids=str)
def test_it_keeps_the_laws_in_a_dtype_of_its_own(law, ns_dtype):
    """Under `vmap` up to rounding: factors that are tensors are not added in one operation."""
    if law is not testing.vmaps:
        return law(fo.scale_by_muon(ns_dtype=ns_dtype), MATRICES)
    g = torch.stack([MATRICES["w"], 0.5 * MATRICES["w"].cos()])
    momenta = torch.tensor([0.9, 0.8])

    def update(momentum, g):
        return feed(fo.scale_by_muon(momentum, ns_dtype=ns_dtype), [g, g.sin()])[0][1]

    together = torch.func.vmap(update)(momenta, g)
    alone = torch.stack([update(m, x) for m, x in zip(momenta, g, strict=True)])
    tol = 500 * torch.finfo(ns_dtype).eps
    return torch.testing.assert_close(together, alone, rtol=0, atol=min(tol, 0.03))


# Who gets it.


class Transformer(torch.nn.Module):
    """The names of the parts are those in use."""

    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(11, 6)
        self.pos_embed = torch.nn.Parameter(torch.randn(1, 5, 6) / 6)
        self.ln_1 = torch.nn.LayerNorm(6)
        self.multi_head_attention = torch.nn.MultiheadAttention(6, 2, batch_first=True)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 6)
        )
        self.conv = torch.nn.Conv1d(6, 6, 3, padding=1)
        self.lm_head = torch.nn.Linear(6, 11, bias=False)

    def forward(self, x):
        h = self.ln_1(self.wte(x) + self.pos_embed)
        h = h + self.multi_head_attention(h, h, h)[0]
        h = self.conv((h + self.mlp(h)).mT).mT
        return self.lm_head(h)


HIDDEN = {
    "multi_head_attention.in_proj_weight",
    "multi_head_attention.out_proj.weight",
    "mlp.0.weight",
    "mlp.2.weight",
}


def transformer():
    torch.manual_seed(0)
    return Transformer().double()


def train(net, opt, steps):
    tokens = torch.arange(15).reshape(3, 5) % 11
    for _ in range(steps):
        opt.zero_grad()
        torch.nn.functional.cross_entropy(net(tokens).mT, (tokens + 1) % 11).backward()
        opt.step()
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def group_of(opt):
    return {n: group["name"] for group in opt.param_groups for n in group["param_names"]}


def test_embeddings_heads_norms_and_biases_go_to_adamw():
    labels = group_of(optim.Muon(transformer().named_parameters()))
    assert {name for name, label in labels.items() if label == "muon"} == HIDDEN
    assert {label for name, label in labels.items() if name not in HIDDEN} == {"adamw"}
    labels = group_of(optim.Muon(transformer().named_parameters(), dims="flatten"))
    assert {name for name, label in labels.items() if label == "muon"} == HIDDEN | {"conv.weight"}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("model.embed_tokens.weight", "adamw"),
        ("encoder.pos_embedding", "adamw"),
        ("fc.parametrizations.weight.original1", "adamw"),
        ("fc.weight_v", "adamw"),
        ("blocks.0.fc.parametrizations.weight.original1", "muon"),
        ("transformer.wpe.weight", "adamw"),
        ("patch_embed.proj.weight", "adamw"),
        ("module.lm_head.weight", "adamw"),
        ("heads.head.weight", "adamw"),
        ("classifier.3.weight", "adamw"),
        ("fc.weight", "adamw"),
        ("model.output.weight", "adamw"),
        ("input_layernorm.weight", "adamw"),
        ("relative_position_bias_table", "adamw"),
        ("cls_token", "adamw"),
        ("heads.0.weight", "adamw"),
        ("model.task_heads.color.weight", "adamw"),
        ("model.layers.61.shared_head.head.weight", "adamw"),
        ("encoder.layer.0.attention.output.LayerNorm.weight", "adamw"),
        ("blocks.0.norm1.weight", "adamw"),
        ("BatchNorm_0/scale", "adamw"),
        ("layer_normalization.weight", "adamw"),
        ("h.0.ln_1.weight", "adamw"),
        ("rnn.bias_ih_l0", "adamw"),
        ("stages.0.attention_biases", "adamw"),
        ("params/embed/w", "adamw"),
        ("bert.encoder.layer.0.output.dense.weight", "muon"),
        ("layers.3.self_attn.q_proj.weight", "muon"),
        ("multi_head_attention.in_proj_weight", "muon"),
        ("token_mixing.fc1.weight", "muon"),
        ("h.0.mlp.c_fc.weight", "muon"),
        ("member.weight", "muon"),
        ("blocks.0.sa.heads.0.key.weight", "muon"),
        ("blocks.0.attn_heads.1.key.weight", "muon"),
        ("layers.0.normalizer_proj.weight", "muon"),
        ("layers.0.debias_proj.weight", "muon"),
        ("layers.0.unbiased.weight", "muon"),
    ],
)
def test_names_tell(name, label):
    assert fo.hidden_weights()(name, torch.zeros(4, 3)) == label


def test_shapes_tell():
    role = fo.hidden_weights("flatten")
    assert role("layer.weight", torch.zeros(1, 9)) == "adamw"
    assert role("layer.weight", torch.zeros(9, 1)) == "adamw"
    assert role("layer.weight", torch.zeros(1, 3, 3)) == "adamw"
    assert role("layer.weight", torch.zeros(3, 1, 3)) == "muon"
    assert fo.hidden_weights("batch")("layer.weight", torch.zeros(3, 1, 3)) == "adamw"
    assert fo.hidden_weights()("layer.weight", torch.zeros(3, 3, 3)) == "adamw"
    assert fo.hidden_weights()(None, torch.zeros(9)) == "adamw"


@pytest.mark.parametrize(
    "make",
    [
        optim.Muon,
        lambda params: optim.Muon([{"params": list(params)}]),
        lambda params: fo.Optimizer(params, fo.muon()),
        lambda params: fo.Optimizer(
            params,
            fo.partition({"a": fo.soap(), "b": fo.adam()}, fo.hidden_weights(None, "a", "b")),
        ),
    ],
)
def test_matrices_without_names_are_refused(make):
    """An embedding or head would be trained as a hidden layer."""
    with pytest.raises(LabelError, match=r"pass `model.named_parameters\(\)`, in parameter"):
        make(transformer().parameters())


def test_with_labels_no_names_are_needed():
    opt = optim.Muon(transformer().mlp.parameters(), labels=lambda name, p: KINDS[p.dim() == 2])
    assert [group["name"] for group in opt.param_groups] == ["muon", "adamw"]


KINDS = ("adamw", "muon")


MATRIX, VECTOR = torch.ones(4, 3), torch.ones(4)


def test_the_labels_are_arguments():
    role = fo.hidden_weights(hidden="matrix", other="rest")
    assert role("layer.weight", MATRIX) == "matrix"
    assert role("head.weight", MATRIX) == role("layer.bias", VECTOR) == "rest"
    assert eval(repr(role), {"hidden_weights": fo.hidden_weights}) == role


@pytest.mark.parametrize("labels", [("adamw", "adamw"), (None, "adamw"), ("soap", 1)], ids=str)
def test_two_labels_that_differ_are_needed(labels):
    with pytest.raises(HyperparameterError, match="must be two different labels"):
        fo.hidden_weights(None, *labels)


@pytest.mark.parametrize("matrices", [fo.soap(), fo.shampoo(), fo.lion()], ids=str)
def test_other_methods_for_matrices_have_a_group_of_their_own(matrices):
    labels = fo.hidden_weights(hidden="matrix", other="rest")
    tx = fo.partition({"matrix": matrices, "rest": fo.adamw(3e-4)}, labels)
    net = transformer()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    opt = fo.Optimizer(net.named_parameters(), tx)
    assert {name for name, label in group_of(opt).items() if label == "matrix"} == HIDDEN
    after = train(net, opt, 2)
    assert all(not torch.equal(after[name], before[name]) for name in before)


def given(net, t):
    """Gradients that depend on nothing, so that no step enlarges the roundings of those before."""
    for i, p in enumerate(net.parameters()):
        p.grad = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape).add(0.7 * t + i).sin()


def test_two_optimizers_of_torch_take_the_same_steps():
    """One object, one scheduler: both learning rates follow it.

    The gradients are not those of the network: the bias of its keys has none but rounding, which
    AdamW divides by `eps`, so that it ends where the processor's matrix products send it. With
    given ones a step moves no entry by more than 0.04, and adds a few roundings to a size below 3:
    1e-14 are twenty of them.
    """
    net, other = transformer(), transformer()
    opt = optim.Muon(net.named_parameters(), lr=0.02, adamw_lr=3e-3, adamw_betas=(0.8, 0.95))
    named = dict(other.named_parameters())
    muon = torch.optim.Muon([p for n, p in named.items() if n in HIDDEN], lr=0.02)
    adamw = torch.optim.AdamW(
        [p for n, p in named.items() if n not in HIDDEN], lr=3e-3, betas=(0.8, 0.95)
    )
    schedulers = [CosineAnnealingLR(x, 15) for x in (opt, muon, adamw)]
    for t in range(10):
        given(net, t)
        given(other, t)
        for x in (opt, muon, adamw, *schedulers):
            x.step()
    assert [group["lr"] for group in opt.param_groups] == [
        adamw.param_groups[0]["lr"],
        muon.param_groups[0]["lr"],
    ]
    assert difference(net.parameters(), other.parameters()) <= 1e-14


def test_an_account_is_printed_of_who_went_where():
    text = optim.explain(optim.Muon(transformer().named_parameters(), lr=0.5))
    blocks = {b.split('"')[1]: b for b in text.split("\n\n")[1:] if b.startswith("group")}
    assert blocks.keys() == {"muon", "adamw"}
    assert "mlp.0.weight " in blocks["muon"]
    assert "lr=0.5" in blocks["muon"]
    assert "wte.weight " in blocks["adamw"]
    assert "betas=" in blocks["adamw"]


def test_a_checkpoint_resumes_to_the_bit():
    net, again = transformer(), transformer()
    opt = optim.Muon(net.named_parameters(), lr=0.02, dims="flatten")
    train(net, opt, 5)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again.load_state_dict(saved["net"])
    other = optim.Muon(reversed(list(again.named_parameters())), dims="flatten")
    other.load_state_dict(saved["opt"])
    expected, got = train(net, opt, 5), train(again, other, 5)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def test_groups_are_live_and_take_their_defaults_back():
    net = transformer()
    opt = optim.Muon(net.named_parameters(), lr=0.02)
    again = type(opt)(net.named_parameters(), **opt.defaults)
    assert again.tx == opt.tx
    assert pickle.loads(pickle.dumps(opt)).tx == opt.tx
    adamw, muon = opt.param_groups
    assert (adamw["name"], muon["name"]) == ("adamw", "muon")
    assert not {"adamw_lr", "labels", "scale_by_adam/eps"} & {*adamw, *muon}
    before = train(net, opt, 1)
    muon["lr"] = 0.0
    adamw["weight_decay"] = 0.5
    after = train(net, opt, 1)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == HIDDEN
    for group in opt.param_groups:
        group["ns_steps"] = 1
    train(net, opt, 1)
    assert (
        opt._groups.transformation(opt.param_groups, 0).tx.transforms["muon"].stages[0].ns_steps
        == 1
    )


def test_an_argument_of_the_whole_is_no_key_of_a_group():
    net = transformer()
    opt = optim.Muon(net.named_parameters())
    new = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(HyperparameterError, match="`adamw_lr` is an argument of the class, no key"):
        opt.add_param_group({"params": [("new", new)], "adamw_lr": 0.1})
    assert len(opt.param_groups) == 2
    opt.add_param_group({"params": [("new", new)], "lr": 0.1, "name": "late"})
    assert (opt.param_groups[2]["name"], opt.param_groups[2]["lr"]) == ("late/muon", 0.1)


def test_labels_can_be_given():
    net = transformer()
    labels = [(r"^mlp[.]0[.]weight$", "muon"), (r"", "adamw")]
    opt = optim.Muon(net.named_parameters(), labels=labels)
    assert [n for n, label in group_of(opt).items() if label == "muon"] == ["mlp.0.weight"]
    with pytest.raises(LabelError, match="fits none of the parameters"):
        optim.Muon(net.named_parameters(), labels=[(r"mpl", "muon"), (r"", "adamw")])


def test_schedules_may_be_given_for_both():
    net = transformer()
    opt = optim.Muon(
        net.named_parameters(),
        lr=fo.linear_schedule(0.2, 0.0, 2),
        adamw_lr=fo.constant_schedule(0.1),
    )
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.2]
    train(net, opt, 1)
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.1]
