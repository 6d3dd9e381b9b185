"""Steps are those of the packages of the authors; of a port, where these have published none."""

import contextlib
import copy
import functools
import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt._numerics.newton_schulz import COEFFICIENTS
from funcopt.errors import StructureError

from .closures import closure_of, gap, named_parameters, network, purely, wrapped
from .frameworks import needed

SHAPES = [(), (1,), (7,), (5, 3), (2, 3, 4)]
STEPS = 200
TOLERANCE = 1e-12  # of the largest entry; 4e-14 is what is seen
LOOKS = (0, 1, 49, 99, 149, 199)  # after these steps the average is looked at, and left again

Make = Callable[[list[torch.nn.Parameter]], Any]


class Row(NamedTuple):
    """A method here, as a transformation and as an optimizer, and there."""

    name: str
    tx: fo.GradientTransformation
    ours: Make
    theirs: Make
    average: tuple[str, str] | None = None  # what puts it in place there, and takes it away
    shapes: Sequence[tuple[int, ...]] = SHAPES

    def __str__(self):
        return self.name


def rows(place, alias, cls, *options, called=None, average=None, shapes=SHAPES):
    """The class at `place`, for each set of options; some of these are `called` otherwise there."""
    package, _, name = place.partition(".")
    for own in options:
        given = {(called or {}).get(k, k): v for k, v in own.items()}
        yield Row(
            f"{place}({', '.join(f'{k}={v}' for k, v in given.items())})",
            alias(**own),
            lambda params, own=own: cls(params, **own),
            lambda params, given=given: getattr(needed(package), name)(params, **given),
            average,
            shapes,
        )


def row(name, tx, theirs, average=None):
    return Row(name, tx, lambda params: fo.Optimizer(params, tx), theirs, average)


MODES = ("eval", "train")

SCHEDULE_FREE = [
    *rows(
        "schedulefree.SGDScheduleFree",
        fo.schedule_free_sgd,
        optim.SGDScheduleFree,
        {"lr": 0.3},
        {"lr": 0.3, "weight_decay": 0.1},
        {"lr": 0.3, "warmup_steps": 30},
        {"lr": 0.3, "momentum": 0.6, "r": 0.5, "weight_lr_power": 1.0},
        {"lr": 0.3, "weight_decay": 0.1, "warmup_steps": 30, "r": 1.0, "weight_lr_power": 0.0},
        average=MODES,
    ),
    *rows(
        "schedulefree.AdamWScheduleFree",
        fo.schedule_free_adamw,
        optim.AdamWScheduleFree,
        {},
        {"lr": 0.05, "weight_decay": 0.1, "eps": 1e-3},
        {"lr": 0.05, "warmup_steps": 30},
        {"lr": 0.05, "betas": (0.6, 0.9), "r": 0.5, "weight_lr_power": 1.0},
        {"lr": 0.05, "weight_decay": 0.1, "warmup_steps": 30, "r": 1.0, "weight_lr_power": 0.0},
        average=MODES,
    ),
]


def of_wrapper(base, **options):
    return lambda params: needed("schedulefree").ScheduleFreeWrapperReference(
        base(params), **options
    )


def adam(params):
    """With its state at once: later, torch finds that of the wrapper, and makes none."""
    made = torch.optim.Adam(params, 0.05, (0.9, 0.99))
    for p in params:
        zeros = torch.zeros_like(p)
        made.state[p] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    return made


INNER = {
    "lr": 0.05,
    "betas": (0.8, 0.99),
    "weight_decay": 0.1,
    "r": 0.5,
    "inner_momentum": 0.9,
}

SCHEDULE_FREE += [
    # The release has no inner momentum; the wrapper takes that of the optimizer inside.
    Row(
        "schedulefree.ScheduleFreeWrapperReference(Adam)",
        fo.schedule_free_adamw(**INNER),
        lambda params: optim.AdamWScheduleFree(params, **INNER),
        of_wrapper(adam, momentum=0.8, weight_decay_at_y=0.1, r=0.5),
        MODES,
    ),
    row(
        "schedulefree.ScheduleFreeWrapperReference(SGD)",
        fo.schedule_free(
            fo.chain(fo.trace(0.5), fo.add_decayed_weights(0.1), fo.scale(-1.0)),
            0.1,
            0.7,
            weight_lr_power=1.0,
        ),
        of_wrapper(
            lambda params: torch.optim.SGD(params, 0.1, momentum=0.5),
            momentum=0.7,
            weight_decay_at_y=0.1,
            weight_lr_power=1.0,
        ),
        MODES,
    ),
]

# While d is 1e-6, p0 - p keeps 10 of 16 digits; where the decay is rounded otherwise, d0 is larger.
RATE_FREE = [
    *rows(
        "prodigyopt.Prodigy",
        fo.prodigy,
        optim.Prodigy,
        {},
        {"lr": 0.5, "safeguard_warmup": True},
        {"use_bias_correction": True},
        {"weight_decay": 0.1, "d0": 0.01},
        {"weight_decay": 0.1, "decouple": False},
        {"growth_rate": 1.02, "d0": 1e-3},
        {"d_coef": 0.5, "beta3": 0.9, "betas": (0.8, 0.99), "eps": 1e-3, "d0": 0.01},
    ),
    *rows(
        "dadaptation.DAdaptAdam",
        fo.dadapt_adamw,
        optim.DAdaptAdamW,
        {"decouple": True},
        {"decouple": True, "lr": 0.5, "use_bias_correction": True},
        {"decouple": True, "weight_decay": 0.1, "d0": 0.01},
        {"decouple": False, "weight_decay": 0.1},
        {"decouple": True, "growth_rate": 1.02, "d0": 1e-3, "betas": (0.8, 0.99), "eps": 1e-3},
    ),
    Row(
        "dadaptation.DAdaptAdam(layer_scale=0.5)",
        fo.dadapt_adamw(layer_scale=0.5),
        lambda params: optim.DAdaptAdamW(params, layer_scale=0.5),
        lambda params: needed("dadaptation").DAdaptAdam(
            [{"params": params, "layer_scale": 0.5}], decouple=True
        ),
    ),
]

LION = rows(
    "lion_pytorch.Lion",
    fo.lion,
    optim.Lion,
    {},
    {"lr": 0.01, "weight_decay": 0.5},
    {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1},
)

# Ports.


def soap(*options, shapes):
    return rows(
        "pytorch_optimizer.SOAP",
        fo.soap,
        optim.SOAP,
        *({"weight_decay": 0.0, **own} for own in options),  # it is another on purpose: see `soap`
        called={"max_precond_dim": "max_precondition_dim", "normalize_grads": "normalize_gradient"},
        shapes=shapes,
    )


SOAP = [
    *soap(
        {},
        {"precondition_frequency": 1},
        {"precondition_frequency": 3, "shampoo_beta": 0.8, "betas": (0.9, 0.99), "eps": 1e-3},
        {"precondition_frequency": 2, "precondition_1d": True},
        {"precondition_frequency": 2, "max_precond_dim": 3},
        # The port adds `eps` to the norm too, where the official code has 1e-30.
        {"precondition_frequency": 4, "normalize_grads": True, "eps": 1e-30},
        {"precondition_frequency": 4, "correct_bias": False},
        # One gradient gives full rank, but for vectors: what matrices lack, roundings choose.
        shapes=[(), (2,), (4, 4), (2, 2, 4)],
    ),
    *soap(
        {"precondition_frequency": 2, "merge_dims": True, "max_precond_dim": 4},
        shapes=[(4, 4), (2, 2, 4)],  # the port fails where a single dimension is left
    ),
]

SHAMPOO = rows(
    "pytorch_optimizer.Shampoo",
    fo.shampoo,
    optim.Shampoo,
    # With smaller steps or a larger epsilon than by default: else a direction that had no gradient
    # yet is unstable.
    {"lr": 0.02, "eps": 1e-2, "precondition_1d": True},
    {"lr": 0.1, "eps": 1.0, "precondition_1d": True},
    called={"eps": "matrix_eps"},
)


def with_epsilons_of_port(make, b2, eps, **options):
    """With the epsilons of the port: of what is not yet corrected, and below the root."""
    tx = make(eps=lambda t: eps / (1 - b2 ** (t + 1)) ** 0.5, **options)
    return fo.with_hyperparams(tx, eps_root=lambda t: 1e-15 / (1 - b2 ** (t + 1)))


def mars(b2=0.99, eps=1e-8, decay=0.0, **options):
    return with_epsilons_of_port(fo.mars, b2, eps, weight_decay=decay, **options)


def of_port(name, **options):
    return lambda params: getattr(needed("pytorch_optimizer"), name)(params, **options)


MARS = [
    row("pytorch_optimizer.MARS", mars(), of_port("MARS", optimize_1d=True)),
    row(
        "pytorch_optimizer.MARS(weight_decay, ams_bound)",
        mars(eps=1e-3, decay=0.1, amsgrad=True),
        of_port("MARS", optimize_1d=True, eps=1e-3, weight_decay=0.1, ams_bound=True),
    ),
    row(
        "pytorch_optimizer.MARS(betas, gamma)",
        mars(0.9, betas=(0.8, 0.9), gamma=0.5),
        of_port("MARS", optimize_1d=True, betas=(0.8, 0.9), gamma=0.5),
    ),
    row(
        "pytorch_optimizer.MARS(lion)",
        fo.chain(
            fo.add_mars_correction(0.95),
            fo.ema(0.95, debias=False),
            fo.scale_by_sign(),
            fo.add_decayed_weights(0.1),
            fo.scale_by_learning_rate(3e-3),
        ),
        of_port("MARS", optimize_1d=True, mars_type="lion", weight_decay=0.1),
    ),
]


def ports(name, alias, cls, *options):
    """The class of the port and ours, for pairs of options: ours, and those that differ there."""
    for own, differing in options:
        given = {**own, **differing}
        yield Row(
            f"pytorch_optimizer.{name}({', '.join(given)})",
            alias(**own),
            lambda params, own=own: cls(params, **own),
            of_port(name, **given),
        )


DECOUPLED = {"weight_decouple": True}
RADAM = {"degenerated_to_sgd": True}  # else the port ascends until the variance is known
ADOPT = {"clip_lambda": lambda t: (t - 1) ** 0.25}  # of the authors; the port has t instead
VARIANTS_OF_ADAM = [
    *ports(
        "AdEMAMix",
        fo.ademamix,
        optim.AdEMAMix,
        ({}, {"alpha": 2.0}),
        ({"alpha": 5.0, "weight_decay": 0.1, "betas": (0.8, 0.99, 0.999), "eps": 1e-3}, DECOUPLED),
    ),
    Row(
        "pytorch_optimizer.AdEMAMix(t_alpha_beta3)",
        fo.ademamix(beta3_warmup=150, alpha_warmup=150),
        lambda params: optim.AdEMAMix(params, beta3_warmup=150, alpha_warmup=150),
        of_port("AdEMAMix", alpha=2.0, t_alpha_beta3=150),
    ),
    *ports(
        "ADOPT",
        fo.adopt,
        optim.ADOPT,
        ({}, ADOPT),
        ({"weight_decay": 0.1, "lr": 0.01}, ADOPT),
        ({"betas": (0.8, 0.9), "eps": 1e-2}, ADOPT),
    ),
    *ports(
        "Adan",
        fo.adan,
        optim.Adan,
        ({}, {}),
        ({"lr": 0.01, "betas": (0.9, 0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}, DECOUPLED),
    ),
    *ports(
        "StableAdamW",
        fo.stable_adamw,
        optim.StableAdamW,
        ({}, {"eps": 1e-6}),
        ({"lr": 0.01, "betas": (0.8, 0.999), "eps": 1e-2, "weight_decay": 0.5}, {}),
    ),
    *(
        row(
            f"pytorch_optimizer.LaProp(betas={(b1, b2)}, eps={eps})",
            with_epsilons_of_port(fo.laprop, b2, eps, betas=(b1, b2)),
            of_port("LaProp", betas=(b1, b2), eps=eps, foreach=False),  # else in float32
        )
        for b1, b2, eps in [(0.9, 0.999, 1e-15), (0.8, 0.9, 1e-3)]
    ),
    *ports(
        "Ranger",
        fo.ranger,
        optim.Ranger,
        ({}, RADAM),
        ({"lr": 0.05, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.1}, RADAM),
    ),
    *ports(
        "Ranger",
        functools.partial(fo.ranger, sync_period=3, slow_step_size=0.8),
        functools.partial(optim.Ranger, sync_period=3, slow_step_size=0.8),
        ({}, {**RADAM, "k": 3, "alpha": 0.8}),
    ),
    *ports(
        "SGDW",
        fo.sgdw,
        optim.SGDW,
        ({"lr": 0.05, "weight_decay": 0.1}, {}),
        ({"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True}, {}),
        ({"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "dampening": 0.3}, {}),
    ),
    *ports(
        "SignSGD",
        fo.signum,
        optim.Signum,
        ({}, {}),
        ({"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}, {}),
    ),
    *ports("SignSGD", fo.sign_sgd, optim.SignSGD, ({"weight_decay": 0.1}, {"momentum": 0.0})),
]


WIDE_AND_TALL = ((5, 3), (3, 5), (4, 4))


def muons(name, alias, cls, *options, shapes=(*WIDE_AND_TALL, (4, 3, 2))):
    """The class of the port and ours with one group of matrices, for pairs of options.

    The learning rates keep them on their way: where momentum turns, steps enlarge roundings.
    """
    for own, given in options:
        ours = {"labels": "muon", "dims": "flatten", "ns_dtype": None, **own}
        yield Row(
            f"pytorch_optimizer.{name}({', '.join(f'{k}={v}' for k, v in given.items())})",
            alias(**ours),
            lambda params, ours=ours: cls(params, **ours),
            lambda params, given=given: getattr(needed("pytorch_optimizer"), name)(
                [{"params": params, "use_muon": True}], foreach=False, **given
            ),
            shapes=shapes,
        )


TRIPLES = ((3.0, -3.0, 1.0), (2.0, -1.5, 0.5))
MUON = [
    *muons(
        "Muon",
        fo.muon,
        optim.Muon,
        (
            {"lr": 2e-3, "weight_decay": 0.1, "ns_coefficients": "quintic"},
            {"lr": 2e-3, "weight_decay": 0.1, "ns_coeffs": "quintic", "use_adjusted_lr": False},
        ),
        (
            {
                "weight_decay": 0.0,
                "ns_coefficients": TRIPLES,
                "ns_steps": 4,
                "adjust_lr_fn": "match_rms_adamw",
            },
            {"lr": 1e-3, "ns_coeffs": TRIPLES, "ns_steps": 4, "use_adjusted_lr": True},
        ),
    ),
    *muons(
        "NorMuon",
        fo.normuon,
        optim.NorMuon,
        ({"lr": 2e-3, "moment_eps": 0.0}, {"lr": 2e-3, "eps": 0.0}),
        (
            {"lr": 1e-3, "weight_decay": 0.1, "beta2": 0.8, "nesterov": False, "moment_eps": 0.0},
            {"lr": 1e-3, "weight_decay": 0.1, "beta2": 0.8, "nesterov": False, "eps": 0.0},
        ),
        (
            {"lr": 1e-3, "momentum": 0.8, "match_rms_adamw": True, "adjust_lr_fn": "unscaled"},
            {"lr": 1e-3, "momentum": 0.8, "update_scale": "match_rms"},
        ),
        (
            {"lr": 2e-3, "adjust_lr_fn": "match_rms_adamw", "moment_eps": 0.0},
            {"lr": 2e-3, "use_adjusted_lr": True, "eps": 0.0},
        ),
    ),
    # Ours is behind the ratio, theirs in front of it: what is added to the root tells.
    *muons(
        "NorMuon",
        fo.normuon,
        optim.NorMuon,
        ({"lr": 1e-3, "moment_eps": 1e-2}, {"lr": 1e-3, "eps": 1e-2}),
        shapes=[(3, 5), (4, 4)],
    ),
    # The port has no signs, and corrects a bias that the norm takes away again, but for `eps`.
    *muons(
        "AdaMuon",
        fo.adamuon,
        optim.AdaMuon,
        (
            {"lr": 2e-3, "momentum": 0.9, "beta2": 0.95, "weight_decay": 0.0, "moment_eps": 0.0}
            | {"sign": False, "nesterov": False},
            {"lr": 2e-3, "eps": 0.0},
        ),
        (
            {"lr": 1e-3, "momentum": 0.8, "beta2": 0.9, "weight_decay": 0.1, "moment_eps": 0.0}
            | {"sign": False, "nesterov": False, "ns_coefficients": "polar_express"},
            {"lr": 1e-3, "betas": (0.8, 0.9), "weight_decay": 0.1, "eps": 0.0}
            | {"ns_coeffs": COEFFICIENTS["polar_express"]},
        ),
    ),
]


def scion(label, norm, shapes, own, given):
    """One of the three labels of ours, and the class of the port with the norm of this number."""
    ours = {"lr": 2e-3, "labels": label, "ns_dtype": None, **own}
    return Row(
        f"pytorch_optimizer.SCION({norm}, {', '.join(f'{k}={v}' for k, v in given.items())})",
        fo.scion(**ours),
        lambda params: optim.Scion(params, **ours),
        of_port("SCION", lr=2e-3, norm_type=norm, foreach=False, **given),
        shapes=shapes,
    )


SCION = [
    scion("hidden", 2, WIDE_AND_TALL, {"radius": 0.5}, {"constraint": True, "scale": 0.5}),
    scion(
        "hidden",
        2,
        WIDE_AND_TALL,
        {"radius": 2.0, "momentum": 0.7, "constrained": False},
        {"scale": 2.0, "momentum": 0.3},
    ),
    scion("other", 4, WIDE_AND_TALL, {"other_radius": 3.0}, {"constraint": True, "scale": 3.0}),
    scion("vector", 5, [(7,), (1,)], {"constrained": False}, {}),
    *(
        scion(
            "other",
            number,
            WIDE_AND_TALL,
            {"other_norm": norm, "other_radius": 0.5, "constrained": False},
            {"scale": 0.5, "norm_kwargs": kwargs},
        )
        for norm, number, kwargs in [
            ("column", 6, {}),
            ("embedding", 6, {"transpose": True}),
            ("row", 7, {}),
        ]
    ),
]


def lookahead(k, alpha):
    def theirs(params):
        inner = torch.optim.AdamW(params, 0.05, weight_decay=0.1)
        return needed("pytorch_optimizer").Lookahead(inner, k, alpha)

    return row(
        f"pytorch_optimizer.Lookahead({k}, {alpha})",
        fo.lookahead(fo.adamw(0.05, weight_decay=0.1), k, alpha),
        theirs,
        ("backup_and_load_cache", "clear_and_load_backup"),
    )


ROWS = [
    *SCHEDULE_FREE,
    *RATE_FREE,
    *LION,
    *SOAP,
    *SHAMPOO,
    *MARS,
    *VARIANTS_OF_ADAM,
    *MUON,
    *SCION,
    *(lookahead(k, alpha) for k, alpha in [(5, 0.5), (1, 0.5), (6, 0.8)]),
]


pytestmark = pytest.mark.usefixtures("in_float64")


def beginning(shapes=SHAPES):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def gradient(p, t, i):
    """Of a bowl whose bottom moves about: it pulls back, so that rounding does not grow."""
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return p.detach() - torch.cos(entries**1.5) + 0.3 * torch.sin(entries + 0.7 * t + i)


def values(params):
    return torch.cat([p.detach().flatten() for p in params])


def stepped(make, average, shapes):
    """The parameters after each step and the averages after some; and the optimizer."""
    params, found, averages = beginning(shapes), [], []
    opt = make(params)
    if average:
        getattr(opt, "train", lambda: None)()
    for t in range(STEPS):
        for i, p in enumerate(params):
            p.grad = gradient(p, t, i)
        opt.step()
        found.append(values(params))
        if average and t in LOOKS:
            there, back = average
            getattr(opt, there)()
            averages.append(values(params))
            getattr(opt, back)()
    return torch.stack(found + averages), opt


def purely_stepped(tx, average, shapes):
    params, found, averages = [p.detach() for p in beginning(shapes)], [], []
    state = tx.init(params)
    for t in range(STEPS):
        grads = [gradient(p, t, i) for i, p in enumerate(params)]
        updates, state = tx.update(grads, state, params)
        params = fo.apply_updates(params, updates)
        found.append(values(params))
        if average and t in LOOKS:
            averages.append(values(fo.eval_params(tx, state, params)))
    return torch.stack(found + averages)


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


NARROW = ("soap", "qhadam", "psgd")
"""The modules of `pytorch_optimizer` with steps that name float32."""


@contextlib.contextmanager
def unrounded(place):
    """What `pytorch_optimizer` rounds, by name, by a method or by default, stays in float64.

    Within the context, which is for steps of theirs alone: ours are not to round anything.
    """
    if not place.startswith("pytorch_optimizer"):
        yield
        return
    needed("pytorch_optimizer")
    places = [importlib.import_module(f"pytorch_optimizer.optimizer.{x}") for x in NARROW]
    wide = types.SimpleNamespace(**{**vars(torch), "float32": torch.float64})
    matrix = importlib.import_module("pytorch_optimizer.optimizer.utils.matrix")
    iterated = matrix.zero_power_via_newton_schulz_5
    defaults = [torch.float64 if x is torch.bfloat16 else x for x in iterated.__defaults__]
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in places:
            monkeypatch.setattr(module, "torch", wide)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        monkeypatch.setattr(iterated, "__defaults__", tuple(defaults))
        yield


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_steps_are_those_of_the_package(row):
    with unrounded(row.name):
        theirs, opt = stepped(row.theirs, row.average, row.shapes)
    ours, mine = stepped(row.ours, row.average and MODES, row.shapes)
    assert difference(ours, theirs) <= TOLERANCE
    pure = purely_stepped(row.tx, row.average, row.shapes)
    assert difference(pure, theirs) <= TOLERANCE
    if row in RATE_FREE:
        group = opt.param_groups[0]
        assert mine.metrics()["d"].item() == pytest.approx(group["d"], rel=TOLERANCE)
        assert group["d"] > 2 * mine.param_groups[0]["d0"]  # the estimate has been at work


# What evaluates the loss again.

SGD = {"lr": 0.02, "momentum": 0.5, "weight_decay": 1e-3}


def stepped_by_closures(make, first):
    """Parameters after steps with a closure, and with a `first` one before each."""
    params = named_parameters(network())
    opt = make(list(params.values()))
    closure = closure_of(opt, params)
    for _ in range(STEPS):
        if first:
            closure()
        opt.step(closure)
    return params


SAM = [
    (
        "sam.SAM",
        lambda params: needed("sam").SAM(params, torch.optim.SGD(params, **SGD), rho=0.05),
        False,
        fo.sam(fo.sgd(**SGD), 0.05, eps=0.0),
    ),
    (
        "pytorch_optimizer.SAM",
        of_port("SAM", base_optimizer=torch.optim.SGD, rho=0.05, **SGD),
        True,
        fo.sam(fo.sgd(**SGD), 0.05),
    ),
    (
        "pytorch_optimizer.SAM(adaptive)",
        of_port("SAM", base_optimizer=torch.optim.SGD, rho=0.5, adaptive=True, **SGD),
        True,
        fo.sam(fo.sgd(**SGD), 0.5, adaptive=True, eta=0.0),
    ),
]


@pytest.mark.parametrize(("place", "theirs", "first", "tx"), SAM, ids=[place for place, *_ in SAM])
def test_steps_by_the_gradient_of_another_place_are_those_of_the_package(place, theirs, first, tx):
    with unrounded(place):
        expected = stepped_by_closures(theirs, first)
    assert gap(purely(tx, network(), STEPS)[0], expected) <= TOLERANCE
    ours, _ = wrapped(lambda params: fo.Optimizer(params, tx), network(), STEPS)
    assert gap(ours, expected) <= TOLERANCE


def test_updates_are_left_out_and_lengthened_as_in_the_package(monkeypatch):
    """It has no class that does no more, but a function: the mean of the mask, without a floor."""
    heavyball = needed("heavyball")
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    inner, params = fo.scale_by_adam(), [p.detach() for p in beginning()]
    tx = fo.cautious(inner)
    state, theirs = tx.init(params), inner.init(params)
    for t in range(STEPS):
        grads = [gradient(p, t, i) for i, p in enumerate(params)]
        plain, theirs = inner.update(grads, theirs, params)
        updates, state = tx.update(grads, state, params)
        expected = [heavyball.utils.caution(g, u) for g, u in zip(grads, plain, strict=True)]
        assert difference(values(updates), values(expected)) <= TOLERANCE
        params = fo.apply_updates(params, [-0.01 * u for u in updates])


# Checkpoints of the authors

CHECKPOINTS = [
    ("SGDScheduleFree", {"lr": 0.3, "weight_decay": 0.1}),
    ("AdamWScheduleFree", {"lr": 0.05, "weight_decay": 0.1, "warmup_steps": 30}),
]


@pytest.fixture(params=CHECKPOINTS, ids=lambda row: row[0])
def schedule_free(request):
    """An optimizer of the authors after 20 steps, with its parameters; one of ours, with equal."""
    name, options = request.param
    params = beginning()
    theirs = getattr(needed("schedulefree"), name)(params, **options)
    theirs.train()
    for t in range(20):
        step(theirs, params, t)
    mine = [torch.nn.Parameter(p.detach().clone()) for p in params]
    return theirs, params, getattr(optim, name)(mine, **options), mine


def step(opt, params, t):
    for i, p in enumerate(params):
        p.grad = gradient(p, t, i)
    opt.step()


def with_our_entries(saved):
    """As `docs/from_torch.md` has it: what their groups hold, for each parameter."""
    saved = copy.deepcopy(saved)
    for group in saved["param_groups"]:
        momentum = group["momentum"] if "momentum" in group else group["betas"][0]
        for key in group["params"]:
            saved["state"][key] |= {
                "step": group["k"],
                "weight_sum": group["weight_sum"],
                "lr_max": group["lr_max"],
                "last_momentum": momentum,
            }
    return saved


def test_a_checkpoint_of_schedulefree_is_refused_for_what_its_groups_hold(schedule_free):
    theirs, _, ours, _ = schedule_free
    with pytest.raises(StructureError, match=r"entries: .*`last_momentum`, `lr_max`, `weight_sum`"):
        ours.load_state_dict(theirs.state_dict())


def test_with_these_in_the_state_of_each_parameter_it_goes_on_as_theirs(schedule_free):
    theirs, params, ours, mine = schedule_free
    ours.load_state_dict(with_our_entries(theirs.state_dict()))
    for t in range(20, STEPS):
        step(theirs, params, t)
        step(ours, mine, t)
        assert difference(values(mine), values(params)) <= TOLERANCE
    theirs.eval()
    ours.eval()
    assert difference(values(mine), values(params)) <= TOLERANCE
