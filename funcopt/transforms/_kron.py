"""PSGD-Kron: a preconditioner that is fitted, as a product of triangular matrices."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.select import select
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.products import symmetric
from .._numerics.scalars import bias_correction, clamp, integer, mix, power, sqrt, widen
from ..typing import Memory, Scalar, Slots
from ._factors import Factors, rows_along

TINY = torch.finfo(torch.float32).tiny
"""Added to what is divided by."""

MODES = (None, "one_diag", "smart_one_diag", "all_diag")


class KronSlots(NamedTuple):
    """The slots of PSGD-Kron."""

    exp_avg: Tensor  # like p: EMA of the gradient
    Q: Factors  # (n, n) for each dimension of size n, upper triangular; (n,) where it is diagonal


class KronMemory(NamedTuple):
    """The shared scalars of PSGD-Kron."""

    since_fit: Tensor  # (): updates since Q was fitted
    fits: Tensor  # (): how often it was


class scale_by_kron(TensorRule):
    """PSGD with a preconditioner that is a Kronecker product, of a matrix for each dimension.

    For a gradient G of m rows and n columns and triangular Q = (Q_L, Q_R), at step t = 1, 2, ...:

        exp_avg <- momentum exp_avg + (1 - momentum) G,   M = exp_avg / (1 - momentum^t)
        A = Q_L M Q_R^T,   B = Q_L^-T V Q_R^-1,   V ~ N(0, 1)
        Q_L <- Q_L - precond_lr triu(A A^T - B B^T) / |A A^T + B B^T| Q_L,   Q_R likewise
        U = Q_L^T Q_L M Q_R^T Q_R

    |.| is a lower bound of the largest singular value. Q begins as the identity. It is fitted in
    the first update, and in later ones with a probability: at once when the updates since the last
    time, times `update_probability`, are 1. By default that is 1 in the first 500 updates, and then
    decays to 0.03. In every `balance_every`-th fit the matrices of a tensor get equal largest
    entries first. In between, that costs nothing; where Python cannot read the step, as in
    `torch.compile`, Q is fitted in each.

    A dimension has a vector in place of a matrix, the diagonal of Q, where it has one entry or more
    than `max_size_triangular`, where the tensor has fewer than `min_ndim_triangular` dimensions,
    and by `memory_save_mode`. Its |.| is the largest entry.

    V depends only on `seed`, the step, the name of the parameter and the index of the entry.

    U has no unit: M is whitened, to entries of about 1. Shapes: any. Dtypes: exp_avg in
    `state_dtype`, else in that of the parameter; Q in at least float32. On shards the whole tensor
    is gathered; Q is whole on every rank.

    Args:
        momentum: Decay rate of the EMA of the gradient, in [0, 1).
        update_probability: The share of updates in which Q is fitted, in [0, 1]; `None` for the
            schedule above.
        precond_lr: The learning rate of Q; positive.
        max_size_triangular: The largest dimension that has a matrix.
        min_ndim_triangular: The least number of dimensions of a tensor whose dimensions have one.
        memory_save_mode: "one_diag" for a vector for the largest dimension, the last of equal ones;
            "smart_one_diag" for that where it is larger than all others; "all_diag" for vectors
            alone.
        momentum_into_precond_update: Fit Q to the mean M, instead of to the gradient.
        balance_every: Fits from one balance of the matrices to the next.
        seed: Seed of V: an integer, not negative.
        state_dtype: Storage dtype of the EMA.

    Raises:
        HyperparameterError: If `momentum` is outside [0, 1), `update_probability` outside [0, 1],
            another hyperparameter out of range, or `memory_save_mode` unknown.

    References:
        Li, "Preconditioned Stochastic Gradient Descent", 2015, https://arxiv.org/abs/1512.04202;
        Li, "Stochastic Hessian Fittings with Lie Groups", 2024, https://arxiv.org/abs/2402.11858.
        The results are those of https://github.com/evanatyourservice/kron_torch, but for its noise
        in what Q is fitted to, and its balance at random.
    """

    momentum: Scalar = 0.9
    update_probability: Scalar | None = None
    precond_lr: Scalar = 0.1
    max_size_triangular: int = 8192
    min_ndim_triangular: int = 2
    memory_save_mode: Literal["one_diag", "smart_one_diag", "all_diag"] | None = None
    momentum_into_precond_update: bool = True
    balance_every: int = 100
    seed: Scalar = 0
    state_dtype: torch.dtype | None = None
    random = True

    def __post_init__(self) -> None:
        checks.in_unit_interval(self, "momentum", self.momentum)
        if self.update_probability is not None:
            checks.fraction(self, "update_probability", self.update_probability)
        checks.positive(self, "precond_lr", self.precond_lr)
        checks.whole_number(self, "max_size_triangular", self.max_size_triangular)
        checks.whole_number(self, "min_ndim_triangular", self.min_ndim_triangular)
        checks.choice(self, "memory_save_mode", self.memory_save_mode, MODES)
        checks.switch(self, "momentum_into_precond_update", self.momentum_into_precond_update)
        checks.whole_number(self, "balance_every", self.balance_every, least=1)
        checks.seed(self, "seed", self.seed)

    def init_tensor(self, p: Tensor) -> KronSlots:
        dtype, device, shape = widen(p.dtype), p.device, p.shape or (1,)
        vector = torch.ones_like(p, dtype=dtype) if p.dim() == 1 else None  # cut as `p` is
        Q = (
            torch.eye(n, dtype=dtype, device=device)
            if not flat
            else torch.ones(n, dtype=dtype, device=device)
            if vector is None
            else vector
            for n, flat in zip(shape, self._diagonal(shape), strict=True)
        )
        return KronSlots(torch.zeros_like(p, dtype=self.state_dtype), tuple(Q))

    def _diagonal(self, shape: Sequence[int]) -> list[bool]:
        """Which dimensions have a vector."""
        if len(shape) < self.min_ndim_triangular or self.memory_save_mode == "all_diag":
            return [True] * len(shape)
        *rest, most = sorted(shape)
        saved = None
        if self.memory_save_mode == "one_diag" or most > max(rest, default=most):
            saved = max(range(len(shape)), key=lambda i: (shape[i], i))
        if self.memory_save_mode is None:
            saved = None
        return [n <= 1 or n > self.max_size_triangular or i == saved for i, n in enumerate(shape)]

    def init_memory(self, like: Tensor) -> KronMemory:
        zero = torch.zeros((), dtype=torch.int64)
        return KronMemory(zero, zero.clone())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        given = self.update_probability
        return {
            "weight": 1 - self.momentum,
            "total": bias_correction(self.momentum, step),
            "probability": annealed_probability(step - 1) if given is None else given,
            "seed": integer(self.seed),
            "now": integer(step),
        }

    def conclude(self, s: Scalars, memory: KronMemory, total: Any) -> tuple[dict[str, Any], Memory]:
        since = memory.since_fit + 1
        fit = since * s.probability >= 1 - 1e-6  # which 49 times 1 / 49 is not, rounded
        fits = memory.fits + fit
        balance = fit & (fits % self.balance_every == 0)
        return {"fit": fit, "balance": balance}, KronMemory(torch.where(fit, 0, since), fits)

    def update_tensor(
        self, g: Tensor, slots: KronSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        exp_avg = mix(slots.exp_avg, g, s.weight)
        if not g.numel():
            return exp_avg.clone(), KronSlots(exp_avg, slots.Q)
        mean = (exp_avg / s.total).reshape(g.shape or (1,))

        def fitted() -> Factors:
            Q = slots.Q
            if g.dim() > 1:
                Q = select(s.balance, lambda: _balanced(slots.Q), slots.Q)
            v = s.draw.normal(s.seed, s.now, g).reshape(mean.shape)
            x = mean if self.momentum_into_precond_update else g.reshape(mean.shape)
            return _fitted(Q, x, v, s.precond_lr)

        Q = select(s.fit, fitted, slots.Q)
        u = _along(_along(mean, Q, _times), Q, _times_transposed)
        return u.reshape(g.shape), KronSlots(exp_avg, Q)


def annealed_probability(count: Any) -> Any:
    """The share of updates in which Q is fitted by default, after so many updates."""
    return clamp(power(math.e, -1e-3 * (count - 500)), 0.03, 1.0)


def _fitted(Q: Factors, x: Tensor, v: Tensor, lr: Any) -> Factors:
    """Q after a step towards what whitens `x`, by the probe `v`."""
    a, b, new = _along(x, Q, _times), _along(v, Q, _times_inverse_transposed), []
    for i, q in enumerate(Q):
        of_a, of_b = (_gram(y, i, q.dim() == 1) for y in (a, b))
        change, total = lr * (of_a - of_b), of_a + of_b
        if q.dim() == 1:
            new.append(q - change / (total.amax() + TINY) * q)
        else:
            new.append(q - (change.triu() / (_norm_bound(total) + TINY)) @ q)
    return tuple(new)


def _balanced(Q: Factors) -> Factors:
    """Q with equal largest entries, and the same product."""
    norms = torch.stack([q.abs().amax() for q in Q])
    mean = norms.log().mean().exp()
    return tuple(q * (mean / norm) for q, norm in zip(Q, norms, strict=True))


def _along(x: Tensor, Q: Factors, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`x`, with `apply` of the matrix of each dimension and of `x`, as a matrix of its rows."""
    for q in Q:
        n, *rest = x.shape
        x = apply(q, x.reshape(n, math.prod(rest))).mT.reshape(*rest, n)
    return x


def _times(q: Tensor, x: Tensor) -> Tensor:
    return q.unsqueeze(1) * x if q.dim() == 1 else q @ x


def _times_transposed(q: Tensor, x: Tensor) -> Tensor:
    return q.unsqueeze(1) * x if q.dim() == 1 else q.mT @ x


def _times_inverse_transposed(q: Tensor, x: Tensor) -> Tensor:
    if q.dim() == 1:
        return x / q.unsqueeze(1)
    solved: Tensor = torch.linalg.solve_triangular(q.mT, x, upper=False)
    return solved


def _gram(x: Tensor, i: int, diagonal: bool) -> Tensor:
    """X X^T, or its diagonal, where the rows of X are dimension `i` of `x`."""
    rows = rows_along(x, i)
    return rows.square().sum(1) if diagonal else symmetric(rows, rows.mT)


def _norm_bound(a: Tensor) -> Tensor:
    """A lower bound of the largest singular value of a symmetric matrix: by its largest row."""
    most = a.abs().amax().clamp(min=TINY)
    a = a / most
    x = a.index_select(0, a.square().sum(1).argmax().reshape(1)).squeeze(0) @ a
    x = (x / _length(x).clamp(min=TINY)) @ a
    return most * _length(x)


def _length(x: Tensor) -> Tensor:
    return sqrt(x.square().sum())
