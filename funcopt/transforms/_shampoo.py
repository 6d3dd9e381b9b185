"""Shampoo: a preconditioner for every dimension of a tensor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.select import select
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.linalg import inverse_root
from .._numerics.scalars import bias_correction
from ..typing import Memory, Scalar, Slots
from ._factors import Factors, along, grown, squares, viewed


class ShampooSlots(NamedTuple):
    """The slots of Shampoo."""

    GG: Factors  # (n, n) for each dimension of size n: the sum, or EMA, of G G^T; () where none
    roots: Factors  # (n, n) likewise: their inverse roots


class scale_by_shampoo(TensorRule):
    """Preconditions the gradient by inverse roots of its summed outer products, per dimension.

    For a gradient G of m rows and n columns, with GG = (L, R):

        L <- L + G G^T,   R <- R + G^T G
        U = (L + eps I)^(-1/4) G (R + eps I)^(-1/4)

    With a `beta2`, L and R are exponential moving averages instead,
    ``L <- beta2 L + (1 - beta2) G G^T``, divided by their total weight ``1 - beta2^t``. A tensor of
    k preconditioned dimensions has the exponent -1/(2 k). The roots are computed in the first
    update and in every `precondition_frequency`-th after it; where Python cannot read the step, as
    in `torch.compile`, in each.

    With `graft`, U keeps its direction and gets the norm of G, tensor by tensor, so that the
    learning rate of plain gradient descent fits. Else U has no unit.

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

    Raises:
        HyperparameterError: If `beta2` is outside [0, 1), or another hyperparameter is not
            positive.

    References:
        Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018,
        Algorithms 1 and 2. https://arxiv.org/abs/1802.09568. Anil et al., "Scalable Second Order
        Optimization for Deep Learning", 2020, https://arxiv.org/abs/2002.09018, for grafting.
    """

    beta2: Scalar | None = None
    eps: Scalar = 1e-4
    precondition_frequency: int = 1
    max_precond_dim: int = 10000
    merge_dims: bool = False
    precondition_1d: bool = False
    graft: bool = False
    batched = True

    def __post_init__(self) -> None:
        if self.beta2 is not None:
            checks.in_unit_interval(self, "beta2", self.beta2)
        checks.positive(self, "eps", self.eps)
        checks.whole_number(self, "precondition_frequency", self.precondition_frequency, least=1)
        checks.whole_number(self, "max_precond_dim", self.max_precond_dim, least=1)

    def init_tensor(self, p: Tensor) -> ShampooSlots:
        shape = viewed(p.shape, self.merge_dims, self.max_precond_dim)
        return ShampooSlots(
            *(squares(shape, self.max_precond_dim, self.precondition_1d, p, x) for x in (0, 1))
        )

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        sums = self.beta2 is None
        return {
            "weight": None if sums else 1 - self.beta2,
            "total": 1.0 if sums else bias_correction(self.beta2, step),
            "refresh": (step - 1) % self.precondition_frequency == 0,
        }

    def update_tensor(
        self, g: Tensor, slots: ShampooSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        x = g.reshape(viewed(g.shape, self.merge_dims, self.max_precond_dim))
        GG = grown(slots.GG, x, s.weight)
        count = sum(isinstance(gram, Tensor) for gram in GG)

        def rooted() -> Factors:
            return tuple(
                inverse_root(gram / s.total, 2 * count, s.eps) if isinstance(gram, Tensor) else ()
                for gram in GG
            )

        roots = select(s.refresh, rooted, slots.roots)
        u = along(x, roots).reshape(g.shape)
        if self.graft:
            u = u * (_length(g) / (_length(u) + 1e-16))
        return u, ShampooSlots(GG, roots)


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x)
    return length
