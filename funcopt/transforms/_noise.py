"""Noise on gradients."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import integer, power, root
from ..typing import Memory, Scalar, Slots


class add_noise(TensorRule):
    """Adds Gaussian noise whose variance falls from step to step.

        u = g + sqrt(eta / t^gamma) n,   n ~ N(0, 1), independent, at every step t = 1, 2, ...

    n is a function of `seed`, the step, the name of the parameter and the place of the entry alone:
    a run that is resumed goes on to the bit, parameters that are cut over ranks get the noise of
    whole ones, and `torch.func.vmap` over `seed` gives every model its own. The name is the path in
    the tree, or what `named_parameters()` says; an optimizer that was given no names counts its
    parameters. Two stages with the same seed add the same noise: give each its own.

    Args:
        eta: The variance at the first step, in units of the gradient squared; not negative.
        gamma: How fast the variance falls; not negative.
        seed: A whole number, not negative. It stands in `param_groups` as any other.

    Raises:
        HyperparameterError: If `eta` or `gamma` is negative, or `seed` is not a whole number.

    References:
        Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015.
        https://arxiv.org/abs/1511.06807
    """

    eta: Scalar
    gamma: Scalar
    seed: Scalar = 0
    elementwise = True
    random = True

    def __post_init__(self) -> None:
        checks.non_negative(self, "eta", self.eta)
        checks.non_negative(self, "gamma", self.gamma)
        checks.seed(self, "seed", self.seed)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {
            "deviation": root(self.eta / power(step, self.gamma)),
            "seed": integer(self.seed),
            "now": integer(step),
        }

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g + s.deviation * s.draw.normal(s.seed, s.now, g), slots
