"""Adaptive gradient clipping: relative to the norm of the weights."""

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Scalar, Slots


class adaptive_grad_clip(TensorRule):
    """Clips the norm of each unit's gradient to at most `clipping` times that of its weights.

    For every unit, such as a row of the weight of `torch.nn.Linear`:

        most = clipping max(norm(p), eps)
        u = g if norm(g) < most else g most / max(norm(g), 1e-6)

    with ``norm(x) = sqrt(sum of the squares)`` over the entries of the unit. Of a tensor in torch's
    layout, ``(out, in)`` or ``(out, in, height, width)``, a unit is one index of the first
    dimension; a tensor with at most one dimension that is longer than 1, a bias or a gain, is one
    unit. The classifier layer is better excluded, with `masked`.

    Shapes: any. On shards the tensors are gathered.

    Args:
        clipping: Upper bound of the ratio of the norms, in units of the gradient per unit of the
            parameter; positive.
        eps: Lower bound of the norm of the weights, in their units; not negative.
        dims: The dimensions over which the norms are taken; for the transposed layouts
            ``(in, out, ...)`` of `torch.nn.ConvTranspose2d`, ``(0, 2, 3)``.

    Raises:
        HyperparameterError: If `clipping` is not positive, `eps` is negative, or `dims` is not a
            tuple.
        LeafError: If a parameter is complex, or does not have the dimensions in `dims`.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization", ICML
        2021, section 4. https://arxiv.org/abs/2102.06171
    """

    clipping: Scalar = 0.01
    eps: Scalar = 1e-3
    dims: tuple[int, ...] | None = None
    elementwise = False
    needs_params = True
    batched = True

    def __post_init__(self) -> None:
        checks.positive(self, "clipping", self.clipping)
        checks.non_negative(self, "eps", self.eps)
        checks.dimensions(self, "dims", self.dims)

    def unfit(self, p: Tensor) -> str | None:
        if all(-p.dim() <= dim < p.dim() for dim in self.dims or ()):
            return None
        return f"must have the dimensions in `dims`, {self.dims}. Keep it out with `masked`."

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        of_g, of_p = (norm_of_units(x, self.dims) for x in (g, p))
        most = s.clipping * of_p.clamp(min=s.eps)
        clipped = g * (most / of_g.clamp(min=1e-6))
        return g.where(of_g < most, clipped), slots


def norm_of_units(x: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """The norm of every unit, over the dimensions `dims`, which are kept; by default all but one.

    That is the first, unless at most one is longer than 1: then all of the tensor is one unit.
    """
    if dims is None:
        one_unit = sum(n != 1 for n in x.shape) <= 1
        dims = tuple(range(0 if one_unit else 1, x.dim()))
    return sqrt(x.square().sum(dims, keepdim=True))
