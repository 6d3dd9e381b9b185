"""Shampoo: a preconditioner for every dimension of a tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.select import select
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.linalg import inverse_root
from .._numerics.scalars import bias_correction, mix, where
from ..typing import Memory, Scalar, Slots
from ._factors import Factors, along, by_blocks, grown, merge_limit, squares, viewed


class ShampooSlots(NamedTuple):
    """The slots of Shampoo."""

    exp_avg: Any  # like p: EMA of the gradient; () without a `beta1`
    GG: Factors  # (n, n) for each dimension of size n, of each block: the sum, or EMA, of G G^T
    roots: Factors  # (n, n) likewise: their inverse roots; () where there is no such matrix


class scale_by_shampoo(TensorRule):
    """Preconditions the gradient by inverse roots of its summed outer products, per dimension.

    For a gradient G of m rows and n columns, with GG = (L, R):

        L <- L + G G^T,   R <- R + G^T G
        U = (L + eps I)^(-1/4) G (R + eps I)^(-1/4)

    With a `beta2`, L and R are exponential moving averages instead,
    ``L <- beta2 L + (1 - beta2) G G^T``, divided by their total weight ``1 - beta2^t``. With a
    `beta1`, what is preconditioned is the average of G, with its bias corrected, and L and R are of
    G itself. A tensor of k preconditioned dimensions has the exponent -1/(2 k). The roots are
    computed in the update number `start_preconditioning_step`, and in every
    `precondition_frequency`-th after it; where Python cannot read the step, as in `torch.compile`,
    in each. Before, they are the identity.

    With a `block_size`, larger dimensions are cut, and each block has matrices of its own: a matrix
    of 4096 rows is four tensors of 1024, so work and memory of a large layer are bounded.

    With `graft`, U keeps its direction and gets the norm of what is preconditioned, tensor by
    tensor, so that the learning rate of plain gradient descent fits. Else U has no unit. For the
    norm of another method, and for its updates in the first steps, there is the combinator:

        graft(scale_by_adam(), scale_by_shampoo(0.999, beta1=0.9, block_size=1024), start=10)

    On CUDA, torch synchronizes with the device to compute a root.

    Shapes: any; vectors pass unchanged without `precondition_1d`. Dtypes: GG and roots in at least
    float32, in which they are factorized. On shards the whole tensor is gathered; GG and roots are
    whole on every rank.

    Args:
        beta2: Decay rate of the averages, in [0, 1); `None` for sums.
        eps: Added to the eigenvalues, in units of the gradient squared; positive. Where a root is
            kept for several steps, it bounds new directions of the gradient.
        precondition_frequency: Updates from one computation of the roots to the next.
        max_precond_dim: The largest dimension that has a matrix.
        merge_dims: Merge neighboring dimensions, while their product is at most
            `max_precond_dim`.
        precondition_1d: Precondition vectors by a matrix too.
        graft: Give each update the norm of the gradient.
        block_size: Cut larger dimensions into parts of this size, the last one smaller, after any
            merging, which is up to this size then.
        start_preconditioning_step: The first update with roots other than the identity.
        beta1: Decay rate of the average that is preconditioned, in [0, 1); `None` for the gradient
            itself.
        state_dtype: Storage dtype of that average; by default that of the parameter.

    Raises:
        HyperparameterError: If `beta1` or `beta2` is outside [0, 1), or another hyperparameter is
            not positive.

    References:
        Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018,
        Algorithms 1 and 2. https://arxiv.org/abs/1802.09568. Anil et al., "Scalable Second Order
        Optimization for Deep Learning", 2020, https://arxiv.org/abs/2002.09018, for grafting and
        blocks.
    """

    beta2: Scalar | None = None
    eps: Scalar = 1e-4
    precondition_frequency: int = 1
    max_precond_dim: int = 10000
    merge_dims: bool = False
    precondition_1d: bool = False
    graft: bool = False
    block_size: int | None = None
    start_preconditioning_step: int = 1
    beta1: Scalar | None = None
    state_dtype: torch.dtype | None = None
    batched = True

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if getattr(self, name) is not None:
                checks.in_unit_interval(self, name, getattr(self, name))
        checks.positive(self, "eps", self.eps)
        for name in ("precondition_frequency", "max_precond_dim", "start_preconditioning_step"):
            checks.whole_number(self, name, getattr(self, name), least=1)
        if self.block_size is not None:
            checks.whole_number(self, "block_size", self.block_size, least=1)

    def init_tensor(self, p: Tensor) -> ShampooSlots:
        shape, most, vectors = self._shape(p), self.max_precond_dim, self.precondition_1d
        GG, roots = (squares(shape, most, vectors, p, fill, self.block_size) for fill in (0, 1))
        averaged = self.beta1 is not None
        exp_avg = torch.zeros_like(p, dtype=self.state_dtype) if averaged else ()
        return ShampooSlots(exp_avg, GG, roots)

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        return viewed(p.shape, self.merge_dims, merge_limit(self.max_precond_dim, self.block_size))

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        b1, b2 = self.beta1, self.beta2
        begun = step >= self.start_preconditioning_step
        since = step - self.start_preconditioning_step
        return {
            "weight": None if b2 is None else 1 - b2,
            "total": 1.0 if b2 is None else bias_correction(b2, step),
            "mean_weight": None if b1 is None else 1 - b1,
            "mean_total": 1.0 if b1 is None else bias_correction(b1, step),
            "refresh": where(begun, since % self.precondition_frequency, 1) == 0,
        }

    def update_tensor(
        self, g: Tensor, slots: ShampooSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        def update(x: Tensor, own: ShampooSlots) -> tuple[Tensor, ShampooSlots]:
            return self._update_block(x, own, s)

        u, new = by_blocks(update, g, slots, self._shape(g), self.block_size)
        if self.graft:
            u = u * (_length(_mean(g, new.exp_avg, s)) / (_length(u) + 1e-16))
        return u, new

    def _update_block(
        self, x: Tensor, slots: ShampooSlots, s: Scalars
    ) -> tuple[Tensor, ShampooSlots]:
        GG = grown(slots.GG, x, s.weight)
        count = sum(isinstance(gram, Tensor) for gram in GG)

        def rooted() -> Factors:
            return tuple(
                inverse_root(gram / s.total, 2 * count, s.eps) if isinstance(gram, Tensor) else ()
                for gram in GG
            )

        roots = select(s.refresh, rooted, slots.roots)
        exp_avg = slots.exp_avg
        if isinstance(exp_avg, Tensor):
            exp_avg = mix(exp_avg, x, s.mean_weight)
        return along(_mean(x, exp_avg, s), roots), ShampooSlots(exp_avg, GG, roots)


def _mean(x: Tensor, exp_avg: Any, s: Scalars) -> Tensor:
    """What is preconditioned: the average, where there is one."""
    return exp_avg / s.mean_total if isinstance(exp_avg, Tensor) else x


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x)
    return length
