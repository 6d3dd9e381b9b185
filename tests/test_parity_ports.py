"""Further methods: steps are those of the package, also under a scheduler of torch."""

import logging
import math
import random
import types

import pytest
import torch

import funcopt as fo
from funcopt import optim

from .frameworks import needed
from .test_parity_authors import (
    MODES,
    SHAPES,
    STEPS,
    TOLERANCE,
    Row,
    beginning,
    difference,
    gradient,
    of_port,
    purely_stepped,
    rows,
    stepped,
    unrounded,
    values,
)

SCHEDULE_FREE = rows(
    "schedulefree.RAdamScheduleFree",
    fo.schedule_free_radam,
    optim.RAdamScheduleFree,
    {},
    {"lr": 0.05, "weight_decay": 0.1, "eps": 1e-3},
    {"lr": 0.05, "betas": (0.6, 0.9), "r": 0.5, "weight_lr_power": 1.0},
    {"lr": 0.05, "betas": (0.8, 0.6), "weight_decay": 0.1, "weight_lr_power": 0.0},
    average=MODES,
)


def port(name, alias, cls, own, **differing):
    """The class of the port and ours, with other options there than here, where they differ."""
    given = {**own, **differing}
    return Row(
        f"pytorch_optimizer.{name}({', '.join(f'{k}={v}' for k, v in given.items())})",
        alias(**own),
        lambda params: cls(params, **own),
        of_port(name, foreach=False, **given),
    )


def came(own, eps=(1e-30, 1e-16)):
    return Row(
        f"pytorch_optimizer.CAME({own}, {eps})",
        fo.came(eps=eps, **own),
        lambda params: optim.CAME(params, eps=eps, **own),
        of_port("CAME", foreach=False, eps1=eps[0], eps2=eps[1], **own),
    )


NOT_DECOUPLED = {"weight_decouple": False}
PORTS = [
    came({}),
    came({"lr": 0.01, "weight_decay": 0.1}),
    came({"lr": 0.01, "betas": (0.8, 0.9, 0.95), "clip_threshold": 0.5}, (1e-3, 1e-2)),
    port("NovoGrad", fo.novograd, optim.NovoGrad, {"betas": (0.95, 0.98), "eps": 1e-8}),
    port(
        "NovoGrad",
        fo.novograd,
        optim.NovoGrad,
        {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "grad_averaging": True},
        eps=1e-6,
        **NOT_DECOUPLED,
    ),
    port("MADGRAD", fo.madgrad, optim.MADGRAD, {}, lr=1e-2),
    port(
        "MADGRAD",
        fo.madgrad,
        optim.MADGRAD,
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3},
        **NOT_DECOUPLED,
    ),
    port("MADGRAD", fo.madgrad, optim.MADGRAD, {"lr": 0.01, "momentum": 0.0}),
]


def t5(own, **differing):
    given = {**own, **differing}
    return Row(
        f"transformers.Adafactor({given})",
        fo.t5_adafactor(**own),
        lambda params: optim.T5Adafactor(params, **own),
        lambda params: needed("transformers").Adafactor(params, **given),
    )


ADAFACTOR = [
    t5({}),
    t5({"warmup_init": True, "weight_decay": 0.1}),
    t5({"lr": 0.01, "relative_step": False, "scale_parameter": False, "weight_decay": 0.1}),
    t5({"lr": 0.1, "relative_step": False, "beta1": 0.9, "weight_decay": 0.1}),
    t5({"beta1": 0.8, "decay_rate": -0.5, "eps": (1e-3, 1e-1), "clip_threshold": 0.3}),
]


def of_hartford(params, **options):
    """`GrokAdamW` of its author, whose import sets up logging for everything else."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
        return needed("grokadamw").GrokAdamW(params, **options)


def grok(betas=(0.9, 0.999), eps=1e-8, differing=types.MappingProxyType({}), **options):
    """With the epsilon of the author, which is added before the bias is corrected."""
    ours = {"betas": betas, "eps": lambda t: eps / (1 - betas[1] ** (t + 1)) ** 0.5, **options}
    called = {"alpha": "alpha_init"}
    given = {"betas": betas, "eps": eps, **options, "gamma": 0.0, **differing}
    given = {called.get(k, k): v for k, v in given.items()}
    return Row(
        f"grokadamw.GrokAdamW({given})",
        fo.grokadamw(**ours),
        lambda params: optim.GrokAdamW(params, **ours),
        lambda params: of_hartford(params, **given),
    )


GROK = [
    grok(),
    grok(lr=0.01, weight_decay=0.1, gradient_clipping=0.3),
    grok((0.8, 0.95), 1e-2, lr=0.05, weight_decay=0.0, alpha=0.8, lamb=0.5),
    grok(lr=0.01, weight_decay=0.0, gradient_clipping=None, differing={"gradient_clipping": 0.0}),
]


def orthograd(params):
    inner = torch.optim.SGD(params, 0.01, momentum=0.5, foreach=False)
    return needed("pytorch_optimizer").OrthoGrad(inner, foreach=False)


ORTHOGRAD = [
    Row(
        "pytorch_optimizer.OrthoGrad",
        fo.chain(fo.remove_radial_gradient(), fo.sgd(0.01, momentum=0.5)),
        lambda params: fo.Optimizer(
            params, fo.chain(fo.remove_radial_gradient(), fo.sgd(0.01, momentum=0.5))
        ),
        orthograd,
        shapes=SHAPES[2:],  # of a single entry nothing is left, but the roundings of either
    )
]

ROWS = [*SCHEDULE_FREE, *PORTS, *ADAFACTOR, *GROK, *ORTHOGRAD]

pytestmark = [
    pytest.mark.usefixtures("in_float64"),
    pytest.mark.filterwarnings("ignore:.*(autocast|CUDA is not available)"),  # of GrokAdamW
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_the_package(row):
    with unrounded(row.name):
        theirs, _ = stepped(row.theirs, row.average, row.shapes)
    ours, _ = stepped(row.ours, row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
    assert difference(purely_stepped(row.tx, row.average, row.shapes), theirs) <= TOLERANCE


SCHEDULED = [
    row
    for row in (*SCHEDULE_FREE, *PORTS, *ADAFACTOR, *GROK)
    if "'lr'" in row.name or "lr=" in row.name
]


class UnderScheduler:
    """An optimizer whose learning rate a scheduler of torch changes after each step."""

    def __init__(self, opt):
        self.opt = opt
        inside = getattr(opt, "opt", opt)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(inside, lambda t: 1 / (1 + 0.1 * t))

    def step(self):
        self.opt.step()
        self.scheduler.step()

    def __getattr__(self, name):
        return getattr(self.opt, name)


@pytest.mark.parametrize("row", SCHEDULED, ids=str)
def test_so_they_are_under_a_scheduler(row):
    with unrounded(row.name):
        theirs, _ = stepped(lambda ps: UnderScheduler(row.theirs(ps)), row.average, row.shapes)
    ours, _ = stepped(lambda ps: UnderScheduler(row.ours(ps)), row.average, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE


# GrokAdamW: options of its author that are groups or schedules here.


def test_gamma_is_decay_rates_of_groups():
    """But for the bias, which the author corrects with the decay rate of the first tensor."""
    gamma, lr = 0.1, 0.01
    theirs, _ = stepped(lambda ps: of_hartford(ps, lr=lr, gamma=gamma, eps=0.0), None, SHAPES)

    def ours(params):
        groups = []
        for i, p in enumerate(params):
            b1 = 0.9 * (1 - gamma) ** i
            ratio = lambda t, b1=b1: (1 - b1 ** (t + 1)) / (1 - 0.9 ** (t + 1))  # noqa: E731
            rate, decay = lambda t, r=ratio: lr * r(t), lambda t, r=ratio: 1e-2 / r(t)
            own = {"betas": (b1, 0.999), "lr": rate, "weight_decay": decay}
            groups.append({"params": [p], **own})
        return optim.GrokAdamW(groups, eps=0.0)

    assert difference(stepped(ours, None, SHAPES)[0], theirs) <= TOLERANCE


def test_a_grokking_signal_is_an_alpha_that_changes():
    signal, clock = lambda t: abs(math.sin(0.3 * t)), [0]

    def theirs(params):
        opt = of_hartford(
            params, gamma=0.0, eps=0.0, grokking_signal_fns=[lambda: signal(clock[0])]
        )
        opt.register_step_post_hook(lambda *_: clock.append(clock.pop() + 1))
        return opt

    def ours(params):
        return optim.GrokAdamW(params, eps=0.0, alpha=lambda t: 0.98 * math.exp(-0.1 * signal(t)))

    expected, _ = stepped(theirs, None, SHAPES)
    assert clock == [STEPS]
    assert difference(stepped(ours, None, SHAPES)[0], expected) <= TOLERANCE


# Adam-mini: blocks by name.

NAMES = {
    "model.embed_tokens.weight": (6, 4),
    "layers.0.attn.q_proj.weight": (4, 4),
    "layers.0.attn.k_proj.weight": (2, 4),
    "layers.0.attn.v_proj.weight": (2, 4),
    "layers.0.attn.o_proj.weight": (4, 4),
    "layers.0.mlp.up.weight": (8, 4),
    "layers.0.mlp.up.bias": (8,),
    "layers.0.input_norm.weight": (4,),
    "layers.0.scales": (3, 4),
    "lm_head.weight": (6, 4),
}
MINI = [
    {},
    {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
]


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("options", MINI, ids=str)
def test_adam_mini_is_that_of_the_authors(options, scheduled, monkeypatch):
    place = needed("adam_mini.adam_mini")
    monkeypatch.setattr(place, "device", torch.device("cpu"), raising=False)
    wide = types.SimpleNamespace(**{**vars(torch), "float32": torch.float64})
    monkeypatch.setattr(place, "torch", wide)  # how many entries a block has, it keeps in float32

    def theirs(params):
        named = zip(NAMES, params, strict=True)
        return place.Adam_mini(named, dim=4, n_heads=4, n_kv_heads=2, verbose=False, **options)

    def ours(params):
        named = list(zip(NAMES, params, strict=True))
        return optim.AdamMini(named, n_heads=4, n_kv_heads=2, **options)

    around = UnderScheduler if scheduled else lambda opt: opt
    shapes = list(NAMES.values())
    expected, _ = stepped(lambda ps: around(theirs(ps)), None, shapes)
    found, opt = stepped(lambda ps: around(ours(ps)), None, shapes)
    assert difference(found, expected) <= TOLERANCE
    used = {group["name"] for group in opt.param_groups}
    assert used == {"query", "key", "row", "tensor", "norm", "bias"}


# Embeddings: gradients with rows of zeros.


def some_rows(p, t, i):
    """The gradient of a few rows, others in each step."""
    chosen = (torch.arange(p.shape[0]) * 7 + t + i) % 3 == 0
    return torch.where(chosen.reshape(-1, *[1] * (p.dim() - 1)), gradient(p, t, i), 0.0)


@pytest.mark.parametrize("options", [{}, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}], ids=str)
def test_lazy_adam_is_sparse_adam(options):
    mine, theirs = beginning([(7, 3), (5, 2, 2)]), beginning([(7, 3), (5, 2, 2)])
    ours, sparse = optim.LazyAdam(mine, **options), torch.optim.SparseAdam(theirs, **options)
    for t in range(STEPS):
        for i, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            p.grad = some_rows(p, t, i)
            q.grad = some_rows(q, t, i).to_sparse(1)
        ours.step()
        sparse.step()
        assert difference(values(mine), values(theirs)) <= TOLERANCE


def test_with_rows_of_one_entry_rowwise_adagrad_is_adagrad():
    shapes = [(), (7,), (5, 1), (4, 1, 1)]
    mine, theirs = beginning(shapes), beginning(shapes)
    ours = optim.RowwiseAdagrad(mine, 0.1, eps=1e-3, initial_accumulator_value=0.1)
    adagrad = torch.optim.Adagrad(theirs, 0.1, eps=1e-3, initial_accumulator_value=0.1)
    for t in range(STEPS):
        for i, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            p.grad, q.grad = gradient(p, t, i), gradient(q, t, i)
        ours.step()
        adagrad.step()
        assert difference(values(mine), values(theirs)) <= TOLERANCE


# PCGrad


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_gradients_of_several_losses_are_merged_as_in_the_package(count, mean, monkeypatch):
    package = needed("pytorch_optimizer")
    monkeypatch.setattr(random, "shuffle", lambda grads: None)
    params = beginning(SHAPES[1:])  # theirs fails for 0-d tensors
    theirs = package.PCGrad(torch.optim.SGD(params, 0.05), "mean" if mean else "sum")
    goals = [[torch.randn_like(p) for p in params] for _ in range(count)]
    conflicts = 0
    for _ in range(60):
        losses = [
            sum((p - goal).square().sum() for p, goal in zip(params, each, strict=True))
            for each in goals
        ]
        grads = [torch.autograd.grad(loss, params, retain_graph=True) for loss in losses]
        conflicts += sum(fo.tree.dot(g, h) < 0 for g in grads for h in grads)
        ours = fo.pcgrad(grads, mean=mean)
        theirs.pc_backward(losses)
        off = (values(ours) - values([p.grad for p in params])).abs().max()
        assert off <= TOLERANCE * values(grads[0]).abs().max()  # their sum may cancel
        theirs.step()
    assert conflicts > 20
