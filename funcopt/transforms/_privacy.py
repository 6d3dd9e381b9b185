"""Differential privacy: per-example clipping, and noise."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import integer, shortening, sqrt
from ..errors import StructureError
from ..typing import Memory, Scalar, Slots


class dp_aggregate(TensorRule):
    """Clips per-example gradients, sums them, adds noise, and divides by the batch size.

        u = (sum over i of g_i min(1, max_norm / |g_i|) + noise_multiplier max_norm n) / B

    with n ~ N(0, 1), independent for every entry and step. |g_i| is the norm of example i over all
    tensors together, parameter groups and ranks included, and B the number of examples, or
    `batch_size`. n depends only on `seed`, the step, the name of the parameter and the index of the
    entry, as in `add_noise`.

    It takes per-example gradients: tensors with one more dimension, in front. So it has to be the
    first stage of a chain. `torch.func` computes such gradients:

        vmap(grad(loss), in_dims=(None, 0, 0))(params, inputs, targets)

    An optimizer reads them from ``p.grad_sample`` instead of `p.grad`, as Opacus does. Gradients
    of data-parallel ranks are not summed: gather the examples first.

    The privacy budget depends on how examples are sampled and on the number of steps: compute it
    with an accountant. The noise is that of a generator for simulations, rounded to floating-point
    numbers, and no protection against someone who can guess the seed.

    Args:
        max_norm: Upper bound of the norm of each per-example gradient, in its units; positive.
        noise_multiplier: Standard deviation of the noise, in units of `max_norm`; not negative.
        seed: Seed of the noise: an integer, not negative. Keep it secret.
        batch_size: The divisor of the sum, such as the expected batch size if each example is
            sampled independently; positive. A batch may be empty then.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.
        MissingParamsError: If `update` is not given the parameters.
        StructureError: If a gradient has no dimension of examples, tensors differ in the number of
            examples, or there is no example and no `batch_size`.

    References:
        Abadi et al., "Deep Learning with Differential Privacy", CCS 2016.
        https://arxiv.org/abs/1607.00133
    """

    max_norm: Scalar
    noise_multiplier: Scalar
    seed: Scalar = 0
    batch_size: Scalar | None = None
    elementwise = True
    needs_params = True
    per_example = True
    random = True

    def __post_init__(self) -> None:
        checks.positive(self, "max_norm", self.max_norm)
        checks.non_negative(self, "noise_multiplier", self.noise_multiplier)
        checks.seed(self, "seed", self.seed)
        if self.batch_size is not None:
            checks.positive(self, "batch_size", self.batch_size)

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        return {
            "deviation": self.noise_multiplier * self.max_norm,
            "seed": integer(self.seed),
            "now": integer(step),
        }

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        if g.shape[1:] != p.shape:
            raise StructureError(
                "`dp_aggregate` takes one gradient for each example, of shape (examples, "
                f"{', '.join(map(str, p.shape))}), got {tuple(g.shape)}. "
                "`vmap(grad(loss), in_dims=(None, 0))` computes them."
            )
        if s.batch_size is None and not len(g):
            raise StructureError(
                "`dp_aggregate`: there is no example to take the mean of. Where a batch may be "
                "empty, give `batch_size`, the number expected."
            )
        return g.square().flatten(1).sum(1)

    def conclude(self, s: Scalars, memory: Memory, total: Tensor) -> tuple[dict[str, Any], Memory]:
        return {"factors": shortening(sqrt(total), s.max_norm)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        clipped = g * s.factors.reshape(-1, *[1] * p.dim())
        total = clipped.sum(0) + s.deviation * s.draw.normal(s.seed, s.now, p)
        return total / (len(g) if s.batch_size is None else s.batch_size), slots
