"""OrthoGrad: the part of the gradient that is perpendicular to the parameter."""

import torch
from torch import Tensor

from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt
from ..typing import Slots


class remove_radial_gradient(TensorRule):
    """Removes the part of each gradient along its parameter, and restores the norm (OrthoGrad).

    For a gradient g and a parameter p, with products over one tensor:

        h = g - <p, g> / (<p, p> + 1e-30) p
        u = h norm(g) / (norm(h) + 1e-30)

    The parameter then hardly grows where that alone would lower the loss: once all is classified
    correctly, scaling logits up is such a direction. Where nothing but rounding is left of g, u is
    0; so it is for a tensor with a single entry.

    u has the unit of g. Shapes: any; on shards the gradient is gathered.

    Raises:
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Prieto et al., "Grokking at the Edge of Numerical Stability", ICLR 2025, section 5.
        https://arxiv.org/abs/2501.04697
    """

    elementwise = False
    needs_params = True
    batched = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        h = g - (p * g).sum() / ((p * p).sum() + 1e-30) * p
        before, after = sqrt(g.square().sum()), sqrt(h.square().sum())
        rounding = after <= 4 * torch.finfo(g.dtype).eps * before
        factor = before / torch.where(rounding, 1.0, after + 1e-30)
        return h * torch.where(rounding, 0.0, factor), slots
