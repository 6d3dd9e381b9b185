"""SOAP: Adam in the eigenbases of Shampoo."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.select import select
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.linalg import eigenvectors, orthonormal
from .._numerics.scalars import bias_correction, mix, power, sqrt, where
from ..typing import Memory, Scalar, Slots
from ._factors import Factors, along, by_blocks, grown, grown_by_kl, merge_limit, squares, viewed


class SoapSlots(NamedTuple):
    """The slots of SOAP."""

    exp_avg: Tensor  # like p: EMA of the gradient, in the bases
    exp_avg_sq: Tensor  # like p: EMA of its square, in the bases
    GG: Factors  # (n, n) for each dimension of size n, of each block: EMA of G G^T; () where none
    Q: Factors  # (n, n) likewise: the eigenvectors of GG, as columns


class scale_by_soap(TensorRule):
    """Adam in the eigenbases of Shampoo's preconditioner, refreshed every few updates.

    For a gradient G of m rows and n columns, with GG = (L, R) and Q = (Q_L, Q_R), at the updates
    t = 0, 1, 2, ...:

        G'         = Q_L^T G Q_R
        exp_avg    <- b1 exp_avg + (1 - b1) G'
        exp_avg_sq <- b2 exp_avg_sq + (1 - b2) G'^2
        U = sqrt(1 - b2^t) / (1 - b1^t)  Q_L (exp_avg / (sqrt(exp_avg_sq) + eps)) Q_R^T
        L <- shampoo_beta L + (1 - shampoo_beta) G G^T,   R likewise with G^T G

    The first update, t = 0, is zero: it only makes L and R, and the bases, of all their
    eigenvectors. Where t is a multiple of `precondition_frequency`, the bases are refreshed by one
    step of the power method: with its columns sorted by descending eigenvalue, and exp_avg_sq with
    them, ``Q <- qr(L Q)``, and exp_avg is rotated into the new basis. In between that costs
    nothing; where Python cannot read the step, as in `torch.compile`, both factorizations are made
    in every step.

    With ``correction="kl"``, KL-SOAP, L and R are those that minimize a Kullback-Leibler
    divergence, each weighted by the inverse of the other, from the second update on:

        L <- shampoo_beta L + (1 - shampoo_beta) G Q_R diag(1 / (n max(r, eps))) Q_R^T G^T

    with r the diagonal of Q_R^T R Q_R, and R likewise; so for matrices whose dimensions both have
    one. A direction without gradients yet weighs 1 / eps, until that is forgotten.

    A tensor of more dimensions has a matrix for each. Where there is none, the dimension keeps its
    own basis; a tensor without any has Adam.

    U has no unit, as that of Adam. Derivatives through the bases are of the first order. Where the
    first gradient leaves directions undetermined, as one of m > n + 1 rows does, rounding chooses
    among them, and runs that differ in rounding alone differ visibly, as in the official code.

    On CUDA, torch synchronizes with the device to compute eigenvectors: in the first update.

    Shapes: any. Dtypes: moments in `state_dtype`, else in that of the parameter; GG and Q in at
    least float32, in which they are factorized. On shards the whole tensor is gathered; GG and Q
    are whole on every rank.

    Args:
        betas: Decay rates of the first and second moment, in [0, 1).
        shampoo_beta: Decay rate of GG, in [0, 1); `None` is the second of `betas`.
        eps: Added to the root, in units of the gradient; not negative, and with a `correction`
            positive.
        precondition_frequency: Updates from one refresh of the bases to the next.
        max_precond_dim: The largest dimension that has a matrix.
        merge_dims: Merge neighboring dimensions, while their product is at most
            `max_precond_dim`: those of a kernel then share one matrix.
        precondition_1d: Precondition vectors by a matrix too.
        block_size: Cut larger dimensions into parts of this size, the last one smaller, after any
            merging, which is up to this size then. Each block has moments and matrices of its own.
        normalize_grads: Rescale each update, or that of each block, before its bias correction, to
            a root mean square of 1.
        correct_bias: Apply Adam's bias correction, the factor in front of Q_L.
        state_dtype: Storage dtype of the two moments.
        correction: "kl" for KL-SOAP.

    Raises:
        HyperparameterError: If a decay rate is outside [0, 1), `eps` is negative, a count is not
            positive, or `correction` is unknown.

    References:
        Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024.
        https://arxiv.org/abs/2409.11321. The results are those of its official code. Lin et al.,
        "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization", 2025,
        https://arxiv.org/abs/2509.03378, for the correction.
    """

    betas: tuple[Scalar, Scalar] = (0.95, 0.95)
    shampoo_beta: Scalar | None = None
    eps: Scalar = 1e-8
    precondition_frequency: int = 10
    max_precond_dim: int = 10000
    merge_dims: bool = False
    precondition_1d: bool = False
    normalize_grads: bool = False
    correct_bias: bool = True
    state_dtype: torch.dtype | None = None
    correction: Literal["kl"] | None = None
    block_size: int | None = None
    batched = True
    nonnegative = frozenset({"exp_avg_sq"})

    def __post_init__(self) -> None:
        checks.betas(self, "betas", self.betas)
        if self.shampoo_beta is not None:
            checks.in_unit_interval(self, "shampoo_beta", self.shampoo_beta)
        checks.choice(self, "correction", self.correction, (None, "kl"))
        (checks.positive if self.correction else checks.non_negative)(self, "eps", self.eps)
        checks.whole_number(self, "precondition_frequency", self.precondition_frequency, least=1)
        checks.whole_number(self, "max_precond_dim", self.max_precond_dim, least=1)
        if self.block_size is not None:
            checks.whole_number(self, "block_size", self.block_size, least=1)

    def init_tensor(self, p: Tensor) -> SoapSlots:
        zeros = torch.zeros_like(p, dtype=self.state_dtype)
        shape, most, vectors = self._shape(p), self.max_precond_dim, self.precondition_1d
        GG, Q = (squares(shape, most, vectors, p, fill, self.block_size) for fill in (0, 1))
        return SoapSlots(zeros, zeros.clone(), GG, Q)

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        return viewed(p.shape, self.merge_dims, merge_limit(self.max_precond_dim, self.block_size))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.betas
        first, t = step == 1, step - 1
        factor = 1.0
        if self.correct_bias:
            t_or_1 = where(first, 1, t)
            of_b2 = power(bias_correction(b2, t_or_1), 0.5)
            factor = of_b2 / bias_correction(b1, t_or_1)
        refresh = t % self.precondition_frequency == 0
        beta = b2 if self.shampoo_beta is None else self.shampoo_beta
        return {
            "weights": (where(first, 0.0, 1 - b1), where(first, 0.0, 1 - b2), 1 - beta),
            "factor": factor,
            "first": first,
            "refresh": refresh,
        }

    def update_tensor(
        self, g: Tensor, slots: SoapSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        def update(x: Tensor, own: SoapSlots) -> tuple[Tensor, SoapSlots]:
            return self._update_block(x, own, s)

        return by_blocks(update, g, slots, self._shape(g), self.block_size)

    def _update_block(self, x: Tensor, slots: SoapSlots, s: Scalars) -> tuple[Tensor, SoapSlots]:
        turned = along(x, slots.Q)
        exp_avg = mix(slots.exp_avg, turned, s.weights[0])
        exp_avg_sq = mix(slots.exp_avg_sq, turned * turned, s.weights[1])
        u = along(exp_avg / (sqrt(exp_avg_sq) + s.eps), slots.Q, back=True)
        if self.normalize_grads:
            u = u / (1e-30 + sqrt(u.square().mean()))
        GG = self._grown(slots, x, s)
        now = (exp_avg, exp_avg_sq, slots.Q)
        exp_avg, exp_avg_sq, Q = select(
            s.first,
            lambda: (exp_avg, exp_avg_sq, _each(eigenvectors, GG)),
            lambda: select(s.refresh, lambda: _refreshed(GG, *now), now),
        )
        u = select(s.first, lambda: torch.zeros_like(u), lambda: s.factor * u)
        return u, SoapSlots(exp_avg, exp_avg_sq, GG, Q)

    def _grown(self, slots: SoapSlots, x: Tensor, s: Scalars) -> Factors:
        if self.correction is None:
            return grown(slots.GG, x, s.weights[2])
        return select(
            s.first,
            lambda: grown(slots.GG, x, s.weights[2]),
            lambda: grown_by_kl(slots.GG, slots.Q, x, s.weights[2], s.eps),
        )


def _refreshed(
    GG: Factors, exp_avg: Tensor, exp_avg_sq: Tensor, Q: Factors
) -> tuple[Tensor, Tensor, Factors]:
    """The moments in the new bases, and these: one step of the power method from the old ones."""
    exp_avg, new = along(exp_avg, Q, back=True), []
    for i, (gram, basis) in enumerate(zip(GG, Q, strict=True)):
        if isinstance(gram, Tensor):
            order = (basis * (gram @ basis)).sum(-2).argsort(descending=True)
            exp_avg_sq = exp_avg_sq.index_select(i, order)
            basis = orthonormal(gram @ basis.index_select(1, order))
        new.append(basis)
    return along(exp_avg, tuple(new)), exp_avg_sq, tuple(new)


def _each(fn: Any, factors: Factors) -> Factors:
    return tuple(fn(x) if isinstance(x, Tensor) else x for x in factors)
