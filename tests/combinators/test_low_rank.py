"""`low_rank`: GaLore and APOLLO, as their authors' packages and Optax make the steps."""

import types
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
import torch

import funcopt as fo
from funcopt._numerics.random import Draw
from funcopt.errors import HyperparameterError, LeafError

from ..frameworks import needed
from .common import (
    drive,
    gradient,
    named_parameters,
    purely,
    resumes,
    same,
    step,
    the_optimizer_does_the_same,
    values,
    wrapped,
)

STEPS = 100
GAP = 7
RANK = 2
SHAPES = {"tall": (6, 4), "wide": (3, 5), "square": (4, 4)}
MATRICES = {
    n: torch.linspace(-1.0, 1.0, 6 * 5, dtype=torch.float64)[: m * k].reshape(m, k) + len(n) / 9
    for n, (m, k) in SHAPES.items()
}
START = {
    **MATRICES,
    "vector": torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64),
    "thin": torch.tensor([[0.3, -0.4], [0.1, 0.2], [1.0, -1.0]], dtype=torch.float64),
}
PROJECTED = [list(MATRICES), ["vector", "thin"]]


def full_rank(params, t):
    """Gradients whose singular values are apart."""
    return {
        n: gradient(n, p, t) + 0.3 * torch.cos(p.cumsum(0) * 5 + t) * (1 + p.square())
        for n, p in params.items()
    }


def exactly(module, name, double):
    """`module`, whose casts to float32 are casts to float64."""
    return types.SimpleNamespace(**{**vars(module), name: double})


def trained_there(make, groups):
    """What an optimizer of another package makes of the parameters."""
    params = named_parameters(START)
    given = [{"params": [params[n] for n in names], **more} for names, more in groups]
    drive(
        make(given),
        {n: p for names, _ in groups for n, p in params.items() if n in names},
        STEPS,
        full_rank,
    )
    return {n: params[n] for names, _ in groups for n in names}


def adam(eps=1e-6, b2=0.999):
    """Adam with the epsilon of transformers, which is added before the bias is corrected."""
    return fo.scale_by_adam(eps=lambda count: eps / (1 - b2 ** (count + 1)) ** 0.5)


@pytest.mark.parametrize(("dim", "kind"), [("smaller", "std"), ("larger", "reverse_std")])
def test_galore_is_that_of_the_authors(monkeypatch, dim, kind):
    """Of square matrices, ours projects the columns in both cases."""
    package = needed("galore_torch")
    projector = needed("galore_torch.galore_projector")
    monkeypatch.setattr(projector, "torch", exactly(torch, "float", torch.float64))
    names = PROJECTED[0][: 3 if dim == "smaller" else 2]
    more = {"rank": RANK, "update_proj_gap": GAP, "scale": 0.25, "proj_type": kind}
    make = lambda given: package.GaLoreAdamW(given, 0.02, no_deprecation_warning=True)  # noqa: E731
    theirs = trained_there(make, [(names, more), (PROJECTED[1], {})])
    tx = fo.chain(fo.low_rank(adam(), RANK, GAP, 0.25, dim=dim), fo.scale_by_learning_rate(0.02))
    start = {n: START[n] for n in theirs}
    ours, state = purely(tx, STEPS, start, full_rank)
    assert same(ours, values(theirs), 1e-11)
    shapes = {"smaller": {(6, 2), (5, 2), (4, 2)}, "larger": {(4, 2), (3, 2)}}[dim]
    assert {tuple(state.slots[n][0].inner.exp_avg.shape) for n in names} == shapes


@pytest.mark.parametrize(
    ("inner", "other", "gap"),
    [
        (fo.scale_by_adam(), optax.scale_by_adam(), STEPS),
        (fo.scale_by_sign(), optax.scale_by_sign(), GAP),
    ],
    ids=["adam", "sign"],
)
def test_galore_is_that_of_optax_whose_matrices_are_transposed(monkeypatch, inner, other, gap):
    """By one projector, or without slots: the signs of singular vectors are others in JAX."""
    module = needed("optax.contrib._galore")
    monkeypatch.setattr(module, "jnp", exactly(jax.numpy, "float32", jax.numpy.float64))
    tx = fo.chain(fo.low_rank(inner, RANK, gap, 0.5, dim="larger"), fo.scale(-0.02))
    ours, _ = purely(tx, STEPS, MATRICES, full_rank)
    with jax.enable_x64(True):
        theirs = optax.contrib.scale_by_galore(RANK, gap, 0.5, other)
        params = {n: p.numpy().T for n, p in MATRICES.items()}
        state, update = theirs.init(params), jax.jit(theirs.update)
        for t in range(STEPS):
            now = {n: torch.tensor(np.asarray(p).T) for n, p in params.items()}
            grads = {n: g.numpy().T for n, g in full_rank(now, t).items()}
            updates, state = update(grads, state)
            params = {n: p - 0.02 * updates[n] for n, p in params.items()}
    assert same(ours, {n: torch.tensor(np.asarray(params[n]).T) for n in ours}, 1e-11)


class Moments(NamedTuple):
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor


class uncorrected_adam(fo.TensorRule):
    """As in the code of APOLLO, which corrects the bias after the norms."""

    elementwise = True

    def init_tensor(self, p):
        return Moments(torch.zeros_like(p), torch.zeros_like(p))

    def update_tensor(self, g, slots, p, s):
        mean, square = 0.9 * slots[0] + 0.1 * g, 0.999 * slots[1] + 0.001 * g * g
        return mean / (fo.safe_sqrt(square) + 1e-6), Moments(mean, square)


def corrected_rate(count):
    return 0.02 * (1 - 0.999 ** (count + 1)) ** 0.5 / (1 - 0.9 ** (count + 1))


@pytest.fixture
def our_projectors(monkeypatch):
    """The package draws its projectors as we do: by the name of a parameter, and the step."""
    module, of = needed("apollo_torch.random_projector"), {}

    def projector(self, weights, rank, type, seed):
        step = of[self] = of.get(self, 1 - GAP) + GAP
        like = torch.empty(weights.shape[type == "right"], rank, dtype=torch.float64)
        made = Draw(PROJECTED[0][seed - 1], like).normal(5, step, like) / rank**0.5
        return made if type == "left" else made.T

    monkeypatch.setattr(module.GradientProjector, "get_orthogonal_matrix", projector)
    monkeypatch.setattr(module, "next_seed", lambda seed: seed)


@pytest.mark.parametrize("restore", ["channel", "tensor"])
@pytest.mark.parametrize("limited", [False, True])
def test_apollo_is_that_of_the_authors(our_projectors, restore, limited):
    package = needed("apollo_torch")
    more = {"rank": RANK, "update_proj_gap": GAP, "scale": 4.0, "proj_type": "std"}
    more |= {"proj": "random", "scale_type": restore}
    make = lambda given: package.APOLLOAdamW(given, 0.02, disable_nl=not limited)  # noqa: E731
    theirs = trained_there(make, [(PROJECTED[0], more)])
    projected = fo.low_rank(
        uncorrected_adam() if limited else adam(),
        RANK,
        GAP,
        projection="random",
        restore=restore,
        seed=5,
    )
    limit = [fo.limit_norm_growth()] if limited else []
    rate = corrected_rate if limited else 0.02
    tx = fo.chain(projected, *limit, fo.scale(2.0), fo.scale_by_learning_rate(rate))
    assert same(purely(tx, STEPS, MATRICES, full_rank)[0], values(theirs), 1e-11)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_fira_is_that_of_the_package(monkeypatch, scale):
    """A port, whose projectors are new one update later; bias is corrected after the limit."""
    package = needed("pytorch_optimizer")
    place = needed("pytorch_optimizer.optimizer.utils.galore")
    project = place.GaLoreProjector.project
    earlier = lambda self, grad, step: project(self, grad, step - 1)  # noqa: E731
    monkeypatch.setattr(place.GaLoreProjector, "project", earlier)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    more = {"rank": RANK, "update_proj_gap": GAP, "scale": scale, "projection_type": "std"}
    make = lambda given: package.Fira(given, 0.02, foreach=False)  # noqa: E731
    theirs = trained_there(make, [(PROJECTED[0], more)])
    projected = fo.low_rank(uncorrected_adam(), RANK, GAP, scale, residual=True)
    tx = fo.chain(projected, fo.scale_by_learning_rate(corrected_rate))
    assert same(purely(tx, STEPS, MATRICES, full_rank)[0], values(theirs), 1e-11)


def test_the_growth_of_norms_is_limited():
    tx, sizes = fo.limit_norm_growth(2.0), []
    state = tx.init(torch.zeros(2))
    for size in (1.0, 8.0, 8.0, 0.5, 0.6):
        u, state = tx.update(torch.tensor([size, 0.0]), state)
        sizes.append(float(u[0]))
    assert sizes == pytest.approx([1.0, 2.0, 4.0, 0.5, 0.6], rel=1e-6)


SVD = fo.chain(fo.low_rank(fo.scale_by_adam(), 1, 3), fo.scale_by_learning_rate(0.1))
RANDOM = fo.chain(
    fo.low_rank(fo.trace(0.9), 1, 3, 0.5, projection="random"), fo.scale_by_learning_rate(0.1)
)


FIRA = fo.chain(
    fo.low_rank(fo.scale_by_adam(), 1, 3, residual=True), fo.scale_by_learning_rate(0.1)
)


@pytest.mark.parametrize("tx", [SVD, RANDOM, FIRA], ids=["svd", "random", "fira"])
def test_the_optimizer_does_the_same_and_resumes(tx):
    assert the_optimizer_does_the_same(tx)
    assert resumes(tx, 4, 8)


def test_slots_of_matrices_are_small_and_have_keys():
    params, opt = wrapped(SVD, 2, {"w": torch.ones(50, 20), "b": torch.ones(3)})
    w, b = (opt.state[params[n]] for n in ("w", "b"))
    assert {k: tuple(x.shape) for k, x in w.items() if x.dim()} == {
        "projector": (20, 1),
        "exp_avg": (50, 1),
        "exp_avg_sq": (50, 1),
    }
    assert {k for k, x in b.items() if x.dim()} == {"exp_avg", "exp_avg_sq"}


def test_an_explanation_counts_the_slots_of_projections():
    """Of a (1024, 1024) matrix in float32: a projector and two averages of 1024 x 1 each."""
    text = str(fo.explain(fo.low_rank(fo.scale_by_adam(), 1)))
    assert "state: 0.0117 per entry" in text
    opt = fo.Optimizer([("w", torch.nn.Parameter(torch.ones(50, 20)))], SVD)
    assert fo.explain(opt).memory.by("slot")["exp_avg"] == 4 * 50


def test_a_projector_is_kept_between_refreshes_and_random_ones_differ_by_name():
    tx = RANDOM.stages[0]
    params = {
        "a": torch.ones(4, 3, dtype=torch.float64),
        "b": torch.ones(4, 3, dtype=torch.float64),
    }
    state, found = tx.init(params), []
    for _ in range(4):
        _, state = tx.update(params, state)
        found.append(state.slots)
    assert torch.equal(found[0]["a"].projector, found[2]["a"].projector)
    assert not torch.equal(found[2]["a"].projector, found[3]["a"].projector)
    assert not torch.equal(found[0]["a"].projector, found[0]["b"].projector)


def test_what_joins_late_is_trained_at_once():
    params = named_parameters(START)
    opt = fo.Optimizer(list(params.items()), SVD)
    step(opt, params, {n: g for n, g in full_rank(START, 0).items() if n != "tall"})
    step(opt, params, full_rank(values(params), 1))
    alone = fo.chain(fo.low_rank(fo.scale_by_adam(), 1, 3), fo.scale_by_learning_rate(0.1))
    g = full_rank(START, 1)["tall"]
    u, _ = alone.update(g, alone.init(START["tall"]), START["tall"])
    torch.testing.assert_close(params["tall"].detach(), START["tall"] + u, rtol=1e-12, atol=0.0)


def test_of_a_gradient_of_that_rank_nothing_is_lost():
    tx = fo.low_rank(fo.identity(), 2, 1)
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
    for g in (x @ x[:4].mT, x[:3] @ x[:5].mT):
        u, _ = tx.update(g, tx.init(g))
        torch.testing.assert_close(u, g, rtol=1e-12, atol=1e-14)


def test_a_gradient_that_is_not_finite_is_no_error_and_can_be_skipped():
    g = torch.ones(4, 3)
    bad = g.clone()
    bad[0, 0] = float("nan")
    u, _ = fo.low_rank(fo.trace(0.9), 1).update(bad, fo.low_rank(fo.trace(0.9), 1).init(g))
    assert u.isnan().all()
    tx = fo.skip_if(SVD)

    def two_steps(first):
        _, state = tx.update(first, tx.init(g, capturable=True), g)
        return tx.update(g, state, g)[0]

    there = torch.func.vmap(two_steps)(torch.stack([bad, g]))
    fresh, _ = tx.update(g, tx.init(g), g)
    torch.testing.assert_close(there[0], fresh)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: fo.low_rank(fo.adamw()), r"`add_decayed_weights` needs the parameters"),
        (lambda: fo.low_rank(fo.scale_by_sophia()), "nor take extra arguments that are trees"),
        (lambda: fo.low_rank(fo.lion(), restore="channel"), "must not negate them"),
        (lambda: fo.low_rank(fo.lion(), residual=True), "`residual=True`, only norms"),
        (lambda: fo.low_rank(fo.trace(0.9), restore="channel", residual=True), "`residual` adds"),
        (lambda: fo.low_rank(fo.trace(0.9), 0), "`rank` must be"),
        (lambda: fo.low_rank(fo.trace(0.9), projection="qr"), "`projection` must be one of"),
        (lambda: fo.low_rank(fo.trace(0.9), restore="row"), "`restore` must be one of"),
        (lambda: fo.low_rank(fo.trace(0.9), dim=0), "`dim` must be one of"),
        (lambda: fo.low_rank(fo.trace(0.9), scale=-1.0), "`scale` must not be negative"),
        (lambda: fo.low_rank(fo.ema_of_params(0.9)), "`ema_of_params` needs the final update"),
    ],
)
def test_what_makes_no_sense_is_refused(made, message):
    with pytest.raises(HyperparameterError, match=message):
        made()


def test_complex_matrices_are_refused_by_name_and_others_are_not():
    tx = fo.low_rank(fo.trace(0.9), 1)
    tx.init({"v": torch.ones(3, dtype=torch.complex64)})
    with pytest.raises(LeafError, match=r"`low_rank`: parameter `w` of shape .* be complex"):
        tx.init({"w": torch.ones(3, 3, dtype=torch.complex64)})


def test_galore_with_adafactor_is_that_of_the_authors(monkeypatch):
    package = needed("galore_torch")
    projector = needed("galore_torch.galore_projector")
    monkeypatch.setattr(projector, "torch", exactly(torch, "float", torch.float64))
    more = {"rank": RANK, "update_proj_gap": GAP, "scale": 0.25, "proj_type": "std"}
    options = {"scale_parameter": False, "relative_step": False, "weight_decay": 0.1}
    make = lambda given: package.GaLoreAdafactor(given, 0.02, **options)  # noqa: E731
    theirs = trained_there(make, [(PROJECTED[0], more), (PROJECTED[1], {})])
    tx = fo.galore_adafactor(0.02, weight_decay=0.1, rank=RANK, update_gap=GAP)
    start = {n: START[n] for n in theirs}
    assert same(purely(tx, STEPS, start, full_rank)[0], values(theirs), 1e-11)


def test_aliases_are_the_chains_that_have_parity():
    projected = fo.low_rank(fo.scale_by_adam(eps=1e-6), RANK, GAP, 0.25)
    decay, rate = fo.add_decayed_weights(0.1), fo.scale_by_learning_rate(0.02)
    galore = fo.galore_adamw(0.02, weight_decay=0.1, rank=RANK, update_gap=GAP)
    assert galore == fo.chain(projected, decay, rate)
    fira = fo.fira_adamw(0.02, weight_decay=0.1, rank=RANK, update_gap=GAP, scale=0.25)
    assert fira == fo.chain(projected.replace(residual=True), decay, rate)
    for by_tensor, restore in ((False, "channel"), (True, "tensor")):
        inner = fo.scale_by_adam(eps=1e-6)
        projected = fo.low_rank(inner, RANK, GAP, 2.0, "random", restore, seed=5)
        apollo = fo.apollo_adamw(
            0.02, rank=RANK, update_gap=GAP, scale_factor=2.0, scale_by_tensor=by_tensor, seed=5
        )
        limit = fo.limit_norm_growth(1.01)
        assert apollo == fo.chain(projected, limit, fo.add_decayed_weights(0.0), rate)
