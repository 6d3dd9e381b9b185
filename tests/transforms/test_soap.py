"""`scale_by_soap`: Adam in the eigenbases of Shampoo, as in the official code."""

import inspect
import io

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError
from funcopt.transforms import _soap
from funcopt.transforms._factors import grown

from ..frameworks import needed
from .stepping import feed

SHAPES = [(), (4,), (3, 3), (5, 3), (3, 6), (3, 2, 2, 2)]
STEPS = 200


class Official:
    """One tensor of the official code (github.com/nikhilvyas/SOAP, soap.py), in its order.

    That makes its factorisations in float32; here they are in the dtype of the tensor.
    """

    def __init__(
        self,
        p,
        lr=3e-3,
        betas=(0.95, 0.95),
        shampoo_beta=None,
        eps=1e-8,
        precondition_frequency=10,
        max_precond_dim=10000,
        merge_dims=False,
        precondition_1d=False,
        normalize_grads=False,
        correct_bias=True,
    ):
        self.p, self.t, self.Q = p.clone(), 0, None
        self.lr, self.betas, self.eps = lr, betas, eps
        self.shampoo_beta = betas[1] if shampoo_beta is None else shampoo_beta
        self.frequency, self.most = precondition_frequency, max_precond_dim
        self.merges = merge_dims and p.dim() > 1
        self.normalize, self.correct = normalize_grads, correct_bias
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(p), torch.zeros_like(p)
        shape = self.view(p).shape
        self.GG = [torch.zeros(n, n, dtype=p.dtype) if n <= self.most else None for n in shape]
        if p.dim() == 1 and not precondition_1d:
            self.GG = [None]

    def view(self, x):
        if not self.merges:
            return x
        shape, current = [], 1
        for n in x.shape:
            if current * n > self.most:
                if current > 1:
                    shape.append(current)
                    current = n
                else:
                    shape.append(n)
                    current = 1
            else:
                current = current * n
        if current > 1 or not shape:
            shape.append(current)
        return x.reshape(shape)

    def project(self, x, side=0):
        shape, x = x.shape, self.view(x)
        for q in self.Q:
            if q is None:
                x = x.permute([*range(1, x.dim()), 0])
            else:
                x = torch.tensordot(x, q, dims=[[0], [side]])
        return x.reshape(shape)

    def add(self, g):
        g = self.view(g)
        for i, gram in enumerate(self.GG):
            if gram is not None:
                others = [*range(i), *range(i + 1, g.dim())]
                gram.lerp_(torch.tensordot(g, g, dims=[others, others]), 1 - self.shampoo_beta)

    def refresh(self):
        new, squares = [], self.view(self.exp_avg_sq)
        for i, (gram, q) in enumerate(zip(self.GG, self.Q, strict=True)):
            if gram is not None:
                order = torch.argsort(torch.diag(q.T @ gram @ q), descending=True)
                squares = squares.index_select(i, order)
                q = torch.linalg.qr(gram @ q[:, order])[0]
            new.append(q)
        self.Q, self.exp_avg_sq = new, squares.reshape(self.p.shape)

    def step(self, g):
        if self.Q is None:
            self.add(g)
            grams = [m if m is None else m + 1e-30 * torch.eye(len(m)) for m in self.GG]
            self.Q = [m if m is None else torch.linalg.eigh(m)[1].flip(1) for m in grams]
            return
        self.t += 1
        (b1, b2), turned = self.betas, self.project(g)
        self.exp_avg.mul_(b1).add_(turned, alpha=1 - b1)
        self.exp_avg_sq.mul_(b2).add_(turned.square(), alpha=1 - b2)
        size = self.lr
        if self.correct:
            size = size * (1 - b2**self.t) ** 0.5 / (1 - b1**self.t)
        update = self.project(self.exp_avg / (self.exp_avg_sq.sqrt() + self.eps), side=1)
        if self.normalize:
            update = update / (1e-30 + update.square().mean() ** 0.5)
        self.p.add_(update, alpha=-size)
        self.exp_avg = self.project(self.exp_avg, side=1)
        self.add(g)
        if self.t % self.frequency == 0:
            self.refresh()
        self.exp_avg = self.project(self.exp_avg)


class Corrected(Official):
    """With the factors of KL-SOAP, by HeavyBall; the first ones are those of SOAP, as there."""

    def add(self, g):
        if self.Q is None:
            return super().add(g)
        one = [[m if m is None else m[None] for m in ms] for ms in (self.GG, self.Q)]
        utils = needed("heavyball").utils
        utils.update_ggt_kl(self.view(g)[None], *one, self.most, False, self.shampoo_beta, self.eps)
        return None


pytestmark = pytest.mark.usefixtures("in_float64")


def beginning(shapes=SHAPES):
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in shapes]


def gradient(p, t, i):
    """It depends on the parameter, but pulls it back, so that rounding does not grow."""
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return p.detach() + torch.sin(entries**1.5 + 0.7 * t + i)


def stepped(opt, params, steps=STEPS, begin=0):
    for t in range(begin, begin + steps):
        for i, p in enumerate(params):
            p.grad = gradient(p, t, i)
        opt.step()
    return [p.detach() for p in params]


def official(cls=Official, **options):
    tensors = [cls(p, **options) for p in beginning()]
    for t in range(STEPS):
        for i, one in enumerate(tensors):
            one.step(gradient(one.p, t, i))
    return [one.p for one in tensors]


def difference(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


ROWS = [
    {},
    {"precondition_frequency": 1},
    {"precondition_frequency": 3, "shampoo_beta": 0.8, "betas": (0.9, 0.99), "eps": 1e-3},
    {"precondition_frequency": 2, "precondition_1d": True},
    {"precondition_frequency": 2, "merge_dims": True, "max_precond_dim": 6},
    {"precondition_frequency": 2, "merge_dims": True, "max_precond_dim": 4},
    {"precondition_frequency": 2, "max_precond_dim": 3},
    {"precondition_frequency": 4, "normalize_grads": True},
    {"precondition_frequency": 4, "correct_bias": False},
]


@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_class_and_the_pure_form_step_as_the_official_code(options):
    expected = official(**options)
    params = [torch.nn.Parameter(p) for p in beginning()]
    ours = stepped(optim.SOAP(params, weight_decay=0.0, **options), params)
    assert difference(ours, expected) <= 1e-12
    tx, pure = fo.soap(weight_decay=0.0, **options), beginning()
    state = tx.init(pure)
    for t in range(STEPS):
        grads = [gradient(p, t, i) for i, p in enumerate(pure)]
        updates, state = tx.update(grads, state, pure)
        pure = fo.apply_updates(pure, updates)
    assert difference(pure, expected) <= 1e-12


@pytest.mark.parametrize(
    "options",
    [
        {"eps": 1e-2, "precondition_frequency": 1},
        {"eps": 1e-2, "precondition_frequency": 3, "shampoo_beta": 0.8, "betas": (0.9, 0.99)},
        {"eps": 1e-1, "precondition_frequency": 2, "merge_dims": True, "max_precond_dim": 6},
        {"eps": 1e-2, "precondition_frequency": 2, "max_precond_dim": 3},
    ],
    ids=str,
)
def test_with_the_correction_it_has_the_factors_of_heavyball(options, monkeypatch):
    """Of matrices; other tensors, and matrices with one factor, have those of SOAP there too."""
    monkeypatch.setattr(needed("heavyball").utils, "compile_mode", None)
    expected = official(Corrected, **options)
    params = [torch.nn.Parameter(p) for p in beginning()]
    opt = optim.SOAP(params, weight_decay=0.0, correction="kl", **options)
    assert difference(stepped(opt, params), expected) <= 1e-12
    assert difference(expected, official(**options)) > 1e-3


def test_corrected_factors_agree_with_each_other():
    """Where they rest, each is the mean of G S^-1 G^T / n of the other, S, up to noise.

    The gradients are square: a direction that the first lacks weighs 1 / eps for a long time.
    """
    torch.manual_seed(0)
    rows, columns = (torch.logspace(-c, c, 4).diag() for c in (0.5, 0.25))
    gradients = [rows @ torch.randn(4, 4) @ columns for _ in range(500)]
    tx = fo.scale_by_soap(shampoo_beta=0.99, precondition_frequency=1, correction="kl")
    _, state = feed(tx, gradients)
    left, right = state.slots.GG
    for factor, true in ((left, rows), (right, columns)):
        found, wanted = torch.linalg.eigvalsh(factor), true.square().diagonal()
        torch.testing.assert_close(found / found[-1], wanted / wanted[-1], rtol=0.25, atol=0)
    product = torch.linalg.eigvalsh(left).mean() * torch.linalg.eigvalsh(right).mean()
    wanted = rows.square().trace() / 4 * columns.square().trace() / 4
    assert product.item() == pytest.approx(wanted.item(), rel=0.25)
    plain = feed(fo.scale_by_soap(shampoo_beta=0.99), gradients)[1].slots.GG
    assert plain[0].trace() * plain[1].trace() > 8 * 16 * wanted  # each has the size of both


def test_the_correction_is_checked():
    with pytest.raises(HyperparameterError, match="`correction` must be one of None, 'kl', got"):
        fo.scale_by_soap(correction="KL")
    with pytest.raises(HyperparameterError, match=r"`eps` must be positive, got 0[.]0"):
        fo.scale_by_soap(eps=0.0, correction="kl")
    assert fo.scale_by_soap(eps=0.0).eps == 0.0


def history(shape, steps, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(shape) for _ in range(steps)]


def test_the_first_update_is_zero_and_makes_the_bases():
    g = history((4, 3), 1)[0]
    (u,), state = feed(fo.scale_by_soap(), [g])
    assert torch.equal(u, torch.zeros(4, 3))
    left, right = state.slots.GG
    torch.testing.assert_close(left, 0.05 * g @ g.T)
    torch.testing.assert_close(right, 0.05 * g.T @ g)
    for gram, q in zip(state.slots.GG, state.slots.Q, strict=True):
        diagonal = q.T @ gram @ q
        torch.testing.assert_close(q.T @ q, torch.eye(len(q)))
        torch.testing.assert_close(diagonal, diagonal.diag().diag())
        assert (diagonal.diag().diff() <= 1e-12).all()


def test_only_the_decay_moves_a_parameter_in_the_first_step():
    p = torch.nn.Parameter(torch.ones(2, 2))
    p.grad = torch.randn(2, 2)
    optim.SOAP([p], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((2, 2), 0.95))


def test_the_bases_follow_steady_statistics_to_their_eigenvectors():
    """Each refreshment is one step of the power method."""
    directions = torch.linalg.qr(history((4, 4), 1)[0])[0]
    steady = directions @ torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0]))
    start = history((4, 4), 1, seed=1)
    _, state = feed(fo.scale_by_soap((0.9, 0.5), precondition_frequency=1), start + [steady] * 80)
    overlap = (state.slots.Q[0].T @ directions).abs()
    torch.testing.assert_close(overlap, torch.eye(4), rtol=0, atol=1e-6)


def test_the_bases_are_refreshed_when_it_is_time_and_not_made_in_between(monkeypatch):
    made = []
    for name in ("eigenvectors", "orthonormal"):
        real = getattr(_soap, name)
        monkeypatch.setattr(_soap, name, lambda a, r=real, n=name: (made[-1].append(n), r(a))[1])
    tx = fo.scale_by_soap(precondition_frequency=3)
    state = tx.init(torch.zeros(3, 2))
    for g in history((3, 2), 8):
        made.append([])
        _, state = tx.update(g, state)
    both = ["orthonormal", "orthonormal"]
    assert made == [["eigenvectors", "eigenvectors"], [], [], both, [], [], both, []]


def test_without_matrices_it_is_adam_that_starts_one_step_later():
    grads = history((7,), 6)
    ours, _ = feed(fo.scale_by_soap((0.9, 0.99), eps=0.0), grads)
    theirs, _ = feed(fo.scale_by_adam((0.9, 0.99), eps=0.0), grads[1:])
    torch.testing.assert_close(ours, [torch.zeros(7), *theirs], rtol=1e-12, atol=0)


def test_it_does_not_depend_on_the_basis_of_the_gradients():
    grads = history((4, 3), 7)
    left, right = (torch.linalg.qr(x)[0] for x in (history((4, 4), 1)[0], history((3, 3), 1)[0]))
    tx = fo.scale_by_soap(precondition_frequency=2)
    plain, _ = feed(tx, grads)
    turned, _ = feed(tx, [left @ g @ right for g in grads])
    expected = [left @ u @ right for u in plain]
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "sizes"),
    [
        ((5, 3), {}, (5, 3)),
        ((5, 3), {"max_precond_dim": 4}, ((), 3)),
        ((5,), {}, ((),)),
        ((5,), {"precondition_1d": True}, (5,)),
        ((5,), {"precondition_1d": True, "max_precond_dim": 4}, ((),)),
        ((4, 3, 2, 2), {"merge_dims": True, "max_precond_dim": 12}, (12, 4)),
        ((4, 3, 2, 2), {"merge_dims": True, "max_precond_dim": 4}, (4, 3, 4)),
        ((9, 1, 3), {"merge_dims": True, "max_precond_dim": 4}, ((), 3)),
        ((0, 3), {}, ((), 3)),
        ((), {"merge_dims": True, "precondition_1d": True}, ()),
    ],
    ids=str,
)
def test_the_matrices_have_shapes_of_their_own(shape, options, sizes):
    for tx in (fo.scale_by_soap(**options), fo.scale_by_shampoo(**options)):
        state = tx.init(torch.zeros(shape))
        for factors in state.slots[-2:]:
            found = tuple(x if x == () else len(x) for x in factors)
            assert found == sizes
            assert all(x == () or x.shape == (len(x), len(x)) for x in factors)


def test_in_low_precision_matrices_stay_wide():
    p = torch.ones(3, 2, dtype=torch.bfloat16)
    slots = fo.scale_by_soap().init(p).slots
    assert slots.exp_avg.dtype == torch.bfloat16
    assert {x.dtype for x in (*slots.GG, *slots.Q)} == {torch.float32}
    assert fo.scale_by_soap(state_dtype=torch.float32).init(p).slots.exp_avg.dtype == torch.float32


def test_derivatives_through_the_bases_are_those_of_differences():
    """Three refreshments; the gradient of rank 2 leaves one direction undetermined."""
    grads = torch.stack(history((3, 2), 5)).requires_grad_()
    beta = torch.tensor(0.7, requires_grad=True)

    def last(grads, beta):
        tx = fo.scale_by_soap((0.9, 0.8), shampoo_beta=beta, eps=1e-2, precondition_frequency=1)
        return feed(tx, list(grads))[0][-1]

    assert torch.autograd.gradcheck(last, (grads, beta), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("grads", [torch.zeros(4, 5, 2), torch.ones(4, 5, 2)], ids=["0", "1"])
@pytest.mark.parametrize(
    "tx", [fo.scale_by_soap(precondition_frequency=1), fo.scale_by_shampoo()], ids=str
)
def test_derivatives_are_finite_where_directions_are_not_determined(tx, grads):
    leaf = grads.clone().requires_grad_()
    sum(u.sum() for u in feed(tx, list(leaf))[0]).backward()
    assert leaf.grad.isfinite().all()
    slopes = torch.func.grad(lambda g: sum(u.sum() for u in feed(tx, list(g))[0]))(grads)
    assert torch.equal(slopes, leaf.grad)


def test_runs_that_stand_at_other_steps_share_a_vmap():
    """Whether a basis is refreshed differs between them, so both are made and one is chosen."""
    tx = fo.scale_by_soap(precondition_frequency=2)
    grads, states = history((3, 2), 6), []
    for steps in (0, 1, 2, 3):
        states.append(feed(tx, grads[:steps])[1] if steps else tx.init(grads[0]))
    together = torch.func.vmap(tx.update, (None, 0))(grads[5], fo.stack(states))
    for i, state in enumerate(states):
        mine = fo.tree.map(lambda x, i=i: x[i], together)
        torch.testing.assert_close(fo.tree.leaves(mine), fo.tree.leaves(tx.update(grads[5], state)))


@pytest.mark.parametrize("cls", [optim.SOAP, optim.Shampoo], ids=lambda cls: cls.__name__)
def test_a_checkpoint_resumes_to_the_bit(cls):
    options = {"precondition_frequency": 3, "lr": 0.01}
    params = [torch.nn.Parameter(p) for p in beginning()]
    opt = cls(params, **options)
    stepped(opt, params, 5)
    file = io.BytesIO()
    torch.save({"params": [p.detach() for p in params], "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = [torch.nn.Parameter(p) for p in saved["params"]]
    other = cls(again)
    other.load_state_dict(saved["opt"])
    expected, got = (stepped(o, ps, 5, begin=5) for o, ps in ((opt, params), (other, again)))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_state_is_flat_and_its_matrices_are_numbered():
    p = torch.nn.Parameter(torch.ones(3, 2))
    opt = optim.SOAP([p])
    stepped(opt, [p], 1)
    shapes = {key: tuple(x.shape) for key, x in opt.state[p].items()}
    squares = {"GG/0": (3, 3), "GG/1": (2, 2), "Q/0": (3, 3), "Q/1": (2, 2)}
    assert shapes == {"exp_avg": (3, 2), "exp_avg_sq": (3, 2), **squares, "step": ()}


MORE = ["correction", "block_size", "state_dtype"]


def test_the_class_has_the_arguments_of_the_official_code():
    names = ["lr", "betas", "shampoo_beta", "eps", "weight_decay", "precondition_frequency"]
    names += ["max_precond_dim", "merge_dims", "precondition_1d", "normalize_grads", "correct_bias"]
    assert list(inspect.signature(fo.soap).parameters) == [*names, *MORE]
    assert list(inspect.signature(optim.SOAP).parameters)[1 : 1 + len(names)] == names


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"betas": (0.9, 1.0)}, "`betas[1]` must lie in [0, 1), got 1.0."),
        ({"shampoo_beta": -1}, "`shampoo_beta` must lie in [0, 1), got -1."),
        ({"eps": -1.0}, "`eps` must not be negative, got -1.0."),
        (
            {"precondition_frequency": 0},
            "`precondition_frequency` must be a whole number, at least 1, got 0.",
        ),
        ({"max_precond_dim": 0}, "`max_precond_dim` must be a whole number, at least 1, got 0."),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_soap(**fields)
    assert str(error.value) == f"`scale_by_soap`: {message}"


def test_of_large_factors_one_side_is_computed():
    """On a CPU, from 512 rows on; the other is its mirror."""
    x = torch.randn(520, 30, dtype=torch.float64)
    zeros = tuple(torch.zeros(n, n, dtype=torch.float64) for n in x.shape)
    with FlopCounterMode(display=False) as counted:
        rows, columns = grown(zeros, x, 0.5)
    assert counted.get_total_flops() < 0.75 * 2 * 520 * 520 * 30 + 2 * 30 * 30 * 520
    assert torch.equal(rows[:256, 256:], rows[256:, :256].mT)
    torch.testing.assert_close(rows, 0.5 * x @ x.mT)
    torch.testing.assert_close(columns, 0.5 * x.mT @ x)
