"""Differential privacy: no example changes the update by more than the noise hides."""

from typing import Any

from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import integer, shortening, sqrt
from ..errors import StructureError
from ..typing import Memory, Scalar, Slots


class dp_aggregate(TensorRule):
    """Clips the gradient of each example, adds them up, adds noise, and takes the mean.

        u = (sum over i of g_i min(1, max_norm / |g_i|) + noise_multiplier max_norm n) / B

    with n ~ N(0, 1), independent for every entry and step. |g_i| is the norm of example i over all
    tensors together, parameter groups and ranks included, and B the number of examples, or
    `batch_size`. n depends on `seed`, the step, the name of the parameter and the place of the
    entry alone, as in `add_noise`.

    It takes one gradient for each example: tensors with one more axis, in front. So it has to be
    the first stage of a chain. `torch.func` makes such gradients:

        vmap(grad(loss), in_dims=(None, 0, 0))(params, inputs, targets)

    An optimizer reads them from ``p.grad_sample`` instead of `p.grad`, as Opacus does. Ranks that
    see other examples of the same parameters are not added up: gather the examples first.

    What privacy that buys depends on how examples are drawn and on the number of steps: reckon it
    elsewhere. The noise is that of a generator for simulations, rounded to floating-point numbers,
    and no defence against someone who can guess the seed.

    Args:
        max_norm: The greatest length of one example's gradient, in units of it; positive.
        noise_multiplier: The deviation of the noise in units of `max_norm`; not negative.
        seed: A whole number, not negative. Keep it secret.
        batch_size: What to divide by, such as the expected number of examples where each is drawn
            by a chance of its own; positive. A batch may be empty then.

    Raises:
        HyperparameterError: If a number is out of range.
        MissingParamsError: If `update` is not given the parameters.
        StructureError: If a gradient has no axis of examples, tensors differ in their number, or
            there is none, without `batch_size`.

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
                "`vmap(grad(loss), in_dims=(None, 0))` makes such."
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
