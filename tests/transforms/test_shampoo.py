"""`scale_by_shampoo`: a preconditioner for every dimension, as in the paper."""

import pytest
import torch

import funcopt as fo
from funcopt import optim
from funcopt.errors import HyperparameterError

from .stepping import feed

SHAPES = [(), (4,), (1, 1), (3, 3), (5, 3), (3, 6), (2, 3, 4)]
STEPS = 200


pytestmark = pytest.mark.usefixtures("in_float64")


def gradient(p, t, i):
    entries = torch.arange(p.numel(), dtype=p.dtype).reshape(p.shape)
    return p.detach() + torch.sin(entries**1.5 + 0.7 * t + i)


def power(a, exponent):
    values, vectors = torch.linalg.eigh(a)
    return vectors @ (values**exponent).diag() @ vectors.T


class Paper:
    """One tensor of Algorithm 2: H_i starts at eps I, and takes in what is contracted of G."""

    def __init__(self, p, lr=0.1, momentum=0.0, weight_decay=0.0, eps=1e-4, beta2=None, **options):
        self.p, self.t, self.buffer = p.clone(), 0, torch.zeros_like(p)
        self.lr, self.momentum, self.decay = lr, momentum, weight_decay
        self.eps, self.beta2 = eps, beta2
        self.frequency = options.get("precondition_frequency", 1)
        self.graft, self.nesterov = options.get("graft"), options.get("nesterov")
        self.alone = p.dim() == 0 or (p.dim() == 1 and not options.get("precondition_1d"))
        most = options.get("max_precond_dim", 100)
        self.dims = [] if self.alone else [i for i, n in enumerate(p.shape) if n <= most]
        self.sums = {i: torch.zeros(p.shape[i], p.shape[i]) for i in self.dims}

    def step(self, g):
        self.t += 1
        u = g
        for i in self.dims:
            rows = g.transpose(0, i).reshape(g.shape[i], -1)
            outer = rows @ rows.T
            if self.beta2 is None:
                self.sums[i] = self.sums[i] + outer
            else:
                self.sums[i] = self.beta2 * self.sums[i] + (1 - self.beta2) * outer
        if (self.t - 1) % self.frequency == 0:
            total = 1.0 if self.beta2 is None else 1 - self.beta2**self.t
            eye = {i: self.eps * torch.eye(len(x)) for i, x in self.sums.items()}
            exponent = -1 / (2 * max(len(self.dims), 1))
            self.roots = {i: power(x / total + eye[i], exponent) for i, x in self.sums.items()}
        for i, root in self.roots.items():
            u = torch.einsum("ij,j...->i...", root, u.transpose(0, i)).transpose(0, i)
        if self.graft:
            u = u * g.norm() / (u.norm() + 1e-16)
        u = u + self.decay * self.p
        self.buffer = self.momentum * self.buffer + u
        step = u + self.momentum * self.buffer if self.nesterov else self.buffer
        self.p = self.p - self.lr * step


ROWS = [
    {},
    {"eps": 1e-2, "precondition_frequency": 3},
    {"precondition_1d": True, "eps": 0.1},  # with less, a direction without gradients is unstable
    {"beta2": 0.9, "eps": 1e-2, "lr": 0.01},
    {"beta2": 0.99, "eps": 1e-2, "lr": 0.01, "precondition_frequency": 4, "graft": True},
    {"momentum": 0.9, "lr": 0.02, "weight_decay": 0.1, "nesterov": True},
    {"max_precond_dim": 3, "momentum": 0.5},
]


@pytest.mark.parametrize("options", ROWS, ids=str)
def test_it_steps_as_the_paper_says(options):
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    papers = [Paper(p, **options) for p in start]
    params = [torch.nn.Parameter(p.clone()) for p in start]
    opt, tx, pure = optim.Shampoo(params, **options), fo.shampoo(**options), start
    state = tx.init(pure)
    for t in range(STEPS):
        for i, (p, paper) in enumerate(zip(params, papers, strict=True)):
            p.grad = gradient(p, t, i)
            paper.step(gradient(paper.p, t, i))
        opt.step()
        grads = [gradient(p, t, i) for i, p in enumerate(pure)]
        updates, state = tx.update(grads, state, pure)
        pure = fo.apply_updates(pure, updates)
    for p, q, paper in zip(params, pure, papers, strict=True):
        torch.testing.assert_close(p.detach(), paper.p, rtol=0, atol=1e-12)
        torch.testing.assert_close(q, paper.p, rtol=0, atol=1e-12)


def test_the_first_update_of_a_matrix_is_orthogonal():
    """Without eps, (G G^T)^(-1/4) G (G^T G)^(-1/4) = U V^T of G = U S V^T."""
    torch.manual_seed(0)
    g = torch.randn(3, 3)
    (u,), _ = feed(fo.scale_by_shampoo(eps=1e-14), [g])
    left, _, right = torch.linalg.svd(g)
    torch.testing.assert_close(u, left @ right, rtol=0, atol=1e-8)


def test_a_single_matrix_has_the_exponent_of_one_side():
    """(G G^T)^(-1/2) G, where the other dimension is too large."""
    torch.manual_seed(0)
    g = torch.randn(3, 5)
    (u,), _ = feed(fo.scale_by_shampoo(eps=1e-14, max_precond_dim=4), [g])
    torch.testing.assert_close(u @ u.T, torch.eye(3), rtol=0, atol=1e-8)


def test_grafting_keeps_the_direction_and_takes_the_length_of_the_gradient():
    torch.manual_seed(0)
    grads = [torch.randn(4, 3) for _ in range(3)]
    plain, _ = feed(fo.scale_by_shampoo(), grads)
    grafted, _ = feed(fo.scale_by_shampoo(graft=True), grads)
    for g, u, v in zip(grads, plain, grafted, strict=True):
        torch.testing.assert_close(v.norm(), g.norm())
        torch.testing.assert_close(v / v.norm(), u / u.norm())
    zeros = torch.zeros(4, 3)
    assert torch.equal(feed(fo.scale_by_shampoo(graft=True), [zeros])[0][0], zeros)


def test_a_kernel_may_have_one_matrix():
    torch.manual_seed(0)
    g = torch.randn(6, 2, 3)
    (u,), _ = feed(fo.scale_by_shampoo(merge_dims=True, max_precond_dim=6), [g])
    (v,), _ = feed(fo.scale_by_shampoo(), [g.reshape(6, 6)])
    torch.testing.assert_close(u.reshape(6, 6), v)


@pytest.mark.parametrize(
    "tx",
    [
        fo.scale_by_shampoo(0.9, beta1=0.8, precondition_frequency=2, block_size=2),
        fo.scale_by_shampoo(precondition_1d=True, start_preconditioning_step=3, block_size=2),
        fo.scale_by_soap(precondition_frequency=2, block_size=2),
        fo.scale_by_soap(precondition_1d=True, normalize_grads=True, block_size=2),
        fo.scale_by_soap(eps=1e-2, precondition_frequency=1, correction="kl", block_size=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(), (5,), (2, 2), (5, 3), (4, 3, 2)], ids=str)
def test_blocks_are_as_tensors_of_their_own(tx, shape):
    torch.manual_seed(0)
    grads, alone = [torch.randn(shape) for _ in range(6)], tx.replace(block_size=None)
    us, _ = feed(tx, grads)

    def parts(x, dim=0):
        if dim == x.dim():
            return [x]
        return [part for half in x.split(2, dim) for part in parts(half, dim + 1)]

    each = [feed(alone, [parts(g)[i] for g in grads])[0] for i in range(len(parts(grads[0])))]
    for t, u in enumerate(us):
        torch.testing.assert_close(parts(u), [made[t] for made in each], rtol=0, atol=1e-12)


def test_merged_dimensions_are_no_larger_than_a_block():
    torch.manual_seed(0)
    g = torch.randn(6, 2, 3)
    (u,), _ = feed(fo.scale_by_shampoo(merge_dims=True, block_size=6), [g])
    (v,), _ = feed(fo.scale_by_shampoo(), [g.reshape(6, 6)])
    torch.testing.assert_close(u.reshape(6, 6), v)


def test_before_its_first_step_it_is_the_gradient_and_the_roots_are_of_all_of_them():
    torch.manual_seed(0)
    grads = [torch.randn(4, 3) for _ in range(8)]
    late, _ = feed(fo.scale_by_shampoo(0.9, start_preconditioning_step=4), grads)
    early, _ = feed(fo.scale_by_shampoo(0.9), grads)
    assert all(map(torch.equal, late[:3], grads))
    assert all(map(torch.equal, late[3:], early[3:]))


class DistributedShampoo1_0_0:
    """One tensor of Distributed Shampoo 1.0.0 (github.com/facebookresearch/optimizers).

    Its own steps, with matrices in float64, differ from these by at most 4e-14.
    """

    def __init__(self, p, lr, betas, eps, decay, frequency, start, grafting):
        self.p, self.t, self.lr, self.betas, self.eps, self.decay = p, 0, lr, betas, eps, decay
        self.frequency, self.start, self.grafting = frequency, start, grafting
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(p), torch.zeros_like(p)
        self.factors = [torch.zeros(n, n) for n in p.shape]
        self.roots = [torch.eye(n) for n in p.shape]

    def step(self, g):
        self.t += 1
        b1, b2 = self.betas
        for i, factor in enumerate(self.factors):
            rows = g.movedim(i, 0).reshape(len(factor), -1)
            factor.mul_(b2).add_(rows @ rows.T, alpha=1 - b2)
        due = self.t % self.frequency == 0 and self.t > self.start
        if due or self.t == self.start:
            for i, factor in enumerate(self.factors):
                a = factor / (1 - b2**self.t) + self.eps * torch.eye(len(factor))
                self.roots[i] = power(a, -1 / (2 * len(self.factors)))
        self.exp_avg_sq.mul_(b2).add_(g * g, alpha=1 - b2)
        self.exp_avg.lerp_(g, 1 - b1)
        mean = self.exp_avg / (1 - b1**self.t)
        grafted = {
            "adam": mean / ((self.exp_avg_sq / (1 - b2**self.t)).sqrt() + 1e-8),
            "sgd": mean,
            None: None,
        }[self.grafting]
        if self.grafting and self.t < self.start:
            u = grafted
        else:
            u = mean
            for i, root in enumerate(self.roots):
                u = torch.tensordot(root, u, ([1], [i])).movedim(0, i)
            if self.grafting:
                u = u * (grafted.norm() / (u.norm() + 1e-16))
        self.p = self.p - self.lr * (u + self.decay * self.p)


@pytest.mark.parametrize(
    ("frequency", "start", "grafting", "decay"),
    [(1, 1, "adam", 0.0), (5, 10, "adam", 0.1), (3, 3, "sgd", 0.1), (2, 2, None, 0.1)],
)
def test_distributed_shampoo_is_that_of_the_authors(frequency, start, grafting, decay):
    torch.manual_seed(0)
    begin = [torch.randn(shape) for shape in [(1,), (4,), (5, 3), (2, 3, 4)]]
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3}
    theirs = [
        DistributedShampoo1_0_0(
            p, **options, decay=decay, frequency=frequency, start=start, grafting=grafting
        )
        for p in begin
    ]
    params = [torch.nn.Parameter(p.clone()) for p in begin]
    opt = optim.DistributedShampoo(
        params,
        **options,
        weight_decay=decay,
        precondition_frequency=frequency,
        start_preconditioning_step=None if start == frequency else start,
        grafting=grafting,
        merge_dims=False,
    )
    for t in range(STEPS):
        for i, (p, their) in enumerate(zip(params, theirs, strict=True)):
            p.grad = gradient(p, t, i)
            their.step(gradient(their.p, t, i))
        opt.step()
        for p, their in zip(params, theirs, strict=True):
            torch.testing.assert_close(p.detach(), their.p, rtol=0, atol=1e-12)


def test_a_method_to_graft_is_one_of_two():
    with pytest.raises(HyperparameterError, match="`distributed_shampoo`: `grafting` must be"):
        fo.distributed_shampoo(grafting="adagrad")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta2": 1.0}, "`beta2` must lie in [0, 1), got 1.0."),
        ({"beta1": 1.0}, "`beta1` must lie in [0, 1), got 1.0."),
        ({"block_size": 0}, "`block_size` must be a whole number, at least 1, got 0."),
        (
            {"start_preconditioning_step": 0},
            "`start_preconditioning_step` must be a whole number, at least 1, got 0.",
        ),
        ({"eps": 0.0}, "`eps` must be positive, got 0.0."),
        (
            {"precondition_frequency": 0},
            "`precondition_frequency` must be a whole number, at least 1, got 0.",
        ),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(HyperparameterError) as error:
        fo.scale_by_shampoo(**fields)
    assert str(error.value) == f"`scale_by_shampoo`: {message}"
