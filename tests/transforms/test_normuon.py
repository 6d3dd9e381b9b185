"""`scale_by_normuon`: what is orthogonal gets rows, or entries, of about one size."""

import inspect

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError, LeafError

from ..frameworks import needed
from .stepping import feed

SHAPES = [(6, 4), (4, 6), (5, 5)]


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def norm(x):
    return torch.linalg.matrix_norm(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per", ["row", "longer_side", "entry"])
def test_the_update_keeps_the_norm_of_what_it_gets(per, shape):
    history = [drawn(*shape, seed=t) for t in range(4)]
    updates, _ = feed(fo.scale_by_normuon(per=per), history)
    for u, o in zip(updates, history, strict=True):
        torch.testing.assert_close(norm(u), norm(o), rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_or_has_the_root_mean_square_of_adamw(shape):
    (u,), _ = feed(fo.scale_by_normuon(match_rms_adamw=True), [drawn(*shape)])
    assert u.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-9)


def test_in_the_first_step_all_rows_have_one_size():
    o = drawn(6, 4) * torch.logspace(-2, 2, 6, dtype=torch.float64)[:, None]
    (u,), state = feed(fo.scale_by_normuon(), [o])
    torch.testing.assert_close(u.norm(dim=-1), norm(u).expand(6) / 6**0.5, rtol=1e-6, atol=0)
    assert state.slots.exp_avg_sq.shape == (6, 1)


@pytest.mark.parametrize(
    ("per", "shape", "slot", "dims"),
    [
        ("row", (6, 4), (6, 1), None),
        ("row", (4, 6), (4, 1), None),
        ("longer_side", (6, 4), (6, 1), None),
        ("longer_side", (5, 5), (5, 1), None),
        ("longer_side", (4, 6), (1, 6), None),
        ("entry", (4, 6), (4, 6), None),
        ("row", (2, 4, 3), (2, 4, 1), "batch"),
        ("row", (2, 4, 3), (2, 1), "flatten"),
        ("longer_side", (2, 4, 3), (1, 12), "flatten"),
        ("entry", (2, 4, 3), (2, 4, 3), "flatten"),
    ],
    ids=str,
)
def test_there_is_a_second_moment_of_each_row_side_or_entry(per, shape, slot, dims):
    tx = fo.scale_by_normuon(0.8, per=per, dims=dims, state_dtype=torch.float32)
    _, state = feed(tx, [drawn(*shape, seed=t) for t in range(3)])
    assert state.slots.exp_avg_sq.shape == slot
    assert state.slots.exp_avg_sq.dtype == torch.float32


def test_matrices_of_a_tensor_are_normalized_one_by_one():
    history = [drawn(3, 4, 2, seed=t) for t in range(3)]
    together, _ = feed(fo.scale_by_normuon(dims="batch"), history)
    flat, _ = feed(fo.scale_by_normuon(dims="flatten"), history)
    for i in range(3):
        alone, _ = feed(fo.scale_by_normuon(), [o[i] for o in history])
        for u, v in zip(together, alone, strict=True):
            torch.testing.assert_close(u[i], v, rtol=1e-13, atol=0)
    alone, _ = feed(fo.scale_by_normuon(), [o.flatten(1) for o in history])
    assert all(torch.equal(u.flatten(1), v) for u, v in zip(flat, alone, strict=True))


def test_a_factor_of_what_it_gets_is_one_of_the_update():
    """So it does not matter where the ratio is, nor that there is no bias correction."""
    history = [drawn(6, 4, seed=t) for t in range(4)]
    once, _ = feed(fo.scale_by_normuon(moment_eps=0.0), history)
    twice, _ = feed(fo.scale_by_normuon(moment_eps=0.0), [2 * o for o in history])
    for u, v in zip(once, twice, strict=True):
        torch.testing.assert_close(2 * u, v, rtol=1e-13, atol=0)


# The official codes, transcribed: a package has neither. Theirs is in bfloat16.


def iterated(g, steps=5, eps=1e-7):
    x = g.mT if g.size(-2) > g.size(-1) else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if g.size(-2) > g.size(-1) else x


def official_normuon(grad, momentum, second, beta, beta2):
    momentum.lerp_(grad, 1 - beta)
    update = iterated(grad.lerp(momentum, beta))
    before = update.norm(dim=(-2, -1), keepdim=True)
    second.lerp_(torch.mean(update * update, dim=-1, keepdim=True), 1 - beta2)
    update = update / second.sqrt().add(1e-10)
    update = update * (before / update.norm(dim=(-2, -1), keepdim=True).add(1e-10))
    return update * max(1, grad.size(-2) / grad.size(-1)) ** 0.5


def official_adamuon(grad, momentum, second, beta, beta2):
    momentum.lerp_(grad, 1 - beta)
    g = iterated(torch.sign(grad.lerp(momentum, beta)))
    second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    g = g.div(second.sqrt().add(1e-8))
    return g * (0.2 * (min(g.shape) * max(g.shape)) ** 0.5 / (g.norm() + 1e-8))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("alias", "official", "betas", "second"),
    [
        (fo.normuon, official_normuon, (0.95, 0.95), lambda p: torch.zeros_like(p[:, :1])),
        (fo.adamuon, official_adamuon, (0.95, 0.95), torch.zeros_like),
        (fo.normuon, official_normuon, (0.9, 0.7), lambda p: torch.zeros_like(p[:, :1])),
        (fo.adamuon, official_adamuon, (0.9, 0.7), torch.zeros_like),
    ],
)
def test_the_updates_are_those_of_the_official_code(alias, official, betas, second, shape):
    """With its normalization; gradients are given, and far from those where a sign turns."""
    lr, decay = 0.02, 0.1
    tx = alias(lr, decay, *betas, ns_dtype=None, normalization="add", labels="muon")
    p = drawn(*shape, seed=100)
    theirs, buffers = p.clone(), (torch.zeros_like(p), second(p))
    state = tx.init(p)
    for t in range(60):
        grad = drawn(*shape, seed=t)
        u, state = tx.update(grad, state, p)
        p = p + u
        theirs = theirs * (1 - lr * decay) - lr * official(grad, *buffers, *betas)
        torch.testing.assert_close(p, theirs, rtol=0, atol=5e-12)  # `eps`, behind the ratio


def test_the_second_decay_rate_of_adamuon_is_the_first_by_default():
    assert fo.adamuon(momentum=0.8) == fo.adamuon(momentum=0.8, beta2=0.8)
    assert fo.adamuon(momentum=0.8) != fo.adamuon(momentum=0.8, beta2=0.9)


def test_the_signs_can_be_left_out():
    stages = [type(x).__name__ for x in fo.adamuon(sign=False).transforms["muon"].stages]
    assert stages[:3] == ["trace", "orthogonalize", "scale_by_normuon"]
    (_, second, *_) = fo.adamuon().transforms["muon"].stages
    assert second == fo.scale_by_sign()


def test_the_defaults_are_those_of_the_port():
    theirs = inspect.signature(needed("pytorch_optimizer").NorMuon).parameters
    ours = inspect.signature(optim.NorMuon).parameters
    for name in ("lr", "momentum", "beta2", "weight_decay", "nesterov", "ns_steps"):
        assert ours[name].default == theirs[name].default
    assert ours["moment_eps"].default == theirs["eps"].default


def test_the_classes_take_a_whole_model():
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6))
    for cls in (optim.NorMuon, optim.AdaMuon):
        opt = cls(net.named_parameters(), adamw_lr=3e-4)
        groups = {group["name"]: group for group in opt.param_groups}
        assert groups["muon"]["param_names"] == ["0.weight"]
        assert {"beta2", "moment_eps", "eps", "lr", "momentum"} <= groups["muon"].keys()
        assert groups["adamw"]["lr"] == 3e-4


def test_what_is_no_matrix_is_refused_by_name():
    with pytest.raises(LeafError, match=r"`scale_by_normuon`: parameter `b` .* must be a matrix"):
        fo.scale_by_normuon().init({"b": torch.zeros(3)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta2": 1.0}, "`beta2` must lie in [0, 1), got 1.0."),
        ({"moment_eps": -1.0}, "`moment_eps` must not be negative, got -1.0."),
        ({"per": "column"}, "`per` must be one of 'row', 'longer_side', 'entry', got 'column'."),
        ({"dims": 2}, "`dims` must be one of None, 'batch', 'flatten', got 2."),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_normuon(**fields)
    assert str(error.value) == f"`scale_by_normuon`: {message}"
