"""Gradient noise."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import integer, power, root
from ..typing import Memory, Scalar, Slots


class add_noise(TensorRule):
    """Adds Gaussian noise whose variance decays over the steps.

        u = g + sqrt(eta / t^gamma) n,   n ~ N(0, 1), independent, at every step t = 1, 2, ...

    n depends only on `seed`, the step, the name of the parameter and the index of the entry: a
    resumed run continues exactly, parameters that are sharded over ranks get the noise of whole
    ones, and `torch.func.vmap` over `seed` gives every model its own. The name is the path in the
    tree, or that of `named_parameters()`; an optimizer without names numbers its parameters. Two
    stages with the same seed add the same noise: give each its own.

    Args:
        eta: The variance at the first step, in units of the gradient squared; not negative.
        gamma: Power with which the variance decays; not negative.
        seed: Seed of the noise: an integer, not negative. It is in `param_groups`, as any other
            hyperparameter.

    Raises:
        HyperparameterError: If `eta` or `gamma` is negative, or `seed` is not an integer.

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
