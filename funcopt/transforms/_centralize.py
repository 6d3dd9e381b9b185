"""Gradient centralization."""

from torch import Tensor

from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from ..typing import Slots


class centralize(TensorRule):
    """Subtracts from the gradient of each unit its mean.

        u = g - mean(g),   over all dimensions but the first

    Of a tensor in torch's layout, ``(out, in)`` or ``(out, in, height, width)``, a unit is one
    index of the first dimension, as in the paper; tensors with fewer than two dimensions pass
    unchanged. The same as in Optax. Shapes: any. On shards the gradients are gathered.

    Raises:
        LeafError: If a parameter is complex.

    References:
        Yong et al., "Gradient Centralization: A New Optimization Technique for Deep Neural
        Networks", ECCV 2020. https://arxiv.org/abs/2004.01461
    """

    elementwise = False
    batched = True

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        if g.dim() < 2 or not g.numel():
            return g.clone(), slots
        return g - g.mean(tuple(range(1, g.dim())), keepdim=True), slots
