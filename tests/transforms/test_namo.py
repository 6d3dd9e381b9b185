"""`scale_by_namo` and `namo`: orthogonalized momentum, as large as the gradients are certain."""

import math

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LeafError

from .stepping import feed
from .test_normuon import SHAPES, drawn, iterated, norm

OPTIONS = [
    {},
    {"nesterov": False},
    {"momentum": 0.8, "beta2": 0.9, "moment_eps": 1e-2},
]


def official(p, grads, lr=1e-2, momentum=0.95, beta2=0.99, moment_eps=1e-8, nesterov=True):
    """The code of the authors, transcribed, in the dtype of `p` and without weight decay."""
    buf, v_squared = torch.zeros_like(p), torch.zeros((), dtype=p.dtype)
    for t, g in enumerate(grads, 1):
        gn = torch.linalg.vector_norm(g)
        buf.lerp_(g, 1 - momentum)
        g = g.lerp(buf, momentum) if nesterov else buf
        gn_m = torch.linalg.vector_norm(g)
        v_squared.mul_(beta2).add_(gn * gn, alpha=1.0 - beta2)
        bc1, bc2 = 1.0 - momentum**t, 1.0 - beta2**t
        v_t = v_squared.sqrt().add(moment_eps)
        adaptive_lr = (lr * math.sqrt(bc2) / (bc1 + 1e-12)) * (gn_m / v_t)
        adjusted_lr = (adaptive_lr * 0.2 * math.sqrt(max(p.shape))).clamp(max=1.0)
        p = p - adjusted_lr * iterated(g, eps=0.0)
        yield p


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_steps_are_those_of_the_official_code(shape, options):
    """Without what is added to the norm before the iterations: there, of the momentum."""
    grads = [drawn(*shape, seed=t) for t in range(80)]
    tx = fo.namo(weight_decay=0.0, eps=0.0, ns_dtype=None, labels="muon", **options)
    p = drawn(*shape, seed=100)
    state = tx.init(p)
    for g, theirs in zip(grads, official(p, grads, **options), strict=True):
        u, state = tx.update(g, state, p)
        p = p + u
        torch.testing.assert_close(p, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_first_update_has_the_norm_of_a_sign(shape):
    """All bias is corrected: a norm of 1."""
    (u,), _ = feed(fo.scale_by_namo(moment_eps=0.0, nesterov=False), [drawn(*shape)])
    assert norm(u).item() == pytest.approx(1.0, rel=1e-12)
    (u,), _ = feed(fo.scale_by_namo((0.9, 0.96), 0.0, correct_bias=False), [drawn(*shape)])
    assert norm(u).item() == pytest.approx(0.19 / 0.2, rel=1e-12)


def test_updates_are_the_smaller_the_noisier_the_gradients():
    g, noise = drawn(6, 4), [drawn(6, 4, seed=t) for t in range(1, 80)]
    sizes = []
    for scale in (0.0, 1.0, 10.0):
        updates, _ = feed(fo.scale_by_namo(), [g + scale * x for x in noise])
        sizes.append(norm(updates[-1]).item())
    assert sizes[0] == pytest.approx(1.0, rel=2e-3)
    assert sizes[0] > 1.3 * sizes[1] > 1.3 * 1.3 * sizes[2]


def test_matrices_of_a_tensor_have_their_own_norms():
    history = [drawn(3, 4, 2, seed=t) for t in range(3)]
    together, state = feed(fo.scale_by_namo(dims="batch"), history)
    assert state.slots.norm_sq.shape == (3, 1, 1)
    for i in range(3):
        alone, _ = feed(fo.scale_by_namo(), [g[i] for g in history])
        for u, v in zip(together, alone, strict=True):
            torch.testing.assert_close(u[i], v, rtol=1e-13, atol=0)
    flat, state = feed(fo.scale_by_namo(dims="flatten"), history)
    assert state.slots.norm_sq.shape == (1, 1, 1)
    alone, _ = feed(fo.scale_by_namo(), [g.flatten(1) for g in history])
    for u, v in zip(flat, alone, strict=True):
        torch.testing.assert_close(u.flatten(1), v, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 4, 3)], ids=str)
def test_magnitudes_are_those_of_each_matrix(shape):
    g = drawn(*shape)
    exact = {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 60, "ns_dtype": None}
    options = {**exact, "adjust_lr_fn": "unscaled", "dims": "batch"}
    expected = {
        "norm": torch.linalg.matrix_norm(g),
        "nuclear": torch.linalg.matrix_norm(g, "nuc"),
    }
    (plain,), _ = feed(fo.orthogonalize(**options), [g])
    for name, size in expected.items():
        (u,), _ = feed(fo.orthogonalize(**options, magnitude=name), [g])
        torch.testing.assert_close(u, size[..., None, None] * plain, rtol=1e-9, atol=1e-12)


def test_the_class_takes_a_whole_model():
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6))
    opt = optim.NAMO(net.named_parameters(), adamw_lr=3e-4)
    groups = {group["name"]: group for group in opt.param_groups}
    assert groups["muon"]["param_names"] == ["0.weight"]
    assert {"betas", "moment_eps", "eps", "lr"} <= groups["muon"].keys()


def test_what_is_no_matrix_is_refused_by_name():
    with pytest.raises(LeafError, match=r"`scale_by_namo`: parameter `b` .* must be a matrix"):
        fo.scale_by_namo().init({"b": torch.zeros(3)})


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (fo.scale_by_namo, {"betas": (1.0, 0.9)}, "`betas[0]` must lie in [0, 1), got 1.0."),
        (fo.scale_by_namo, {"moment_eps": -1.0}, "`moment_eps` must not be negative, got -1.0."),
        (
            fo.orthogonalize,
            {"magnitude": "spectral"},
            "`magnitude` must be one of None, 'norm', 'nuclear', got 'spectral'.",
        ),
    ],
)
def test_fields_are_checked(make, fields, message):
    with pytest.raises(HyperparameterError) as error:
        make(**fields)
    assert str(error.value) == f"`{make.__name__}`: {message}"
