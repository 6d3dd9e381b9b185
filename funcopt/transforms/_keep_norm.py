"""Keeping the norm of parameters: training on a sphere."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.stage import Scalars
from .._core.tensor_rule import TensorRule
from .._numerics.scalars import sqrt, widen
from ..typing import Scalar, Slots


class KeepNormSlots(NamedTuple):
    """The slots of `keep_norm`."""

    norm: Any  # (): that of the parameter at the first step; () with a radius


class keep_norm(TensorRule):
    """Keeps each parameter tensor at the norm that it had at the first step: on a sphere.

        u <- R (p + u) / norm(p + u) - p,   but u <- 0 if R or norm(p + u) is zero

    with ``norm(x) = sqrt(sum of the squares)`` over all entries of the tensor, and R that of the
    parameter before its first update, or `radius`. It has to be the last stage, after the learning
    rate, since it needs the final update. It replaces the weight decay of hidden matrices.

    After `scale_by_trust_ratio`, the learning rate is the length of a step relative to the radius,
    about the angle of the turn, for every tensor: this is Hyperball, around any method. With Muon:

        chain(scale_by_muon(), scale_by_trust_ratio(), scale_by_learning_rate(0.02), keep_norm())

    A tensor that is zero stays so: give it a `radius`, or keep it out with `masked`. Shapes: any.
    On shards the tensors are gathered. Dtypes: the norm is stored in at least float32.

    Args:
        radius: The norm of every tensor, in units of the parameter; positive. By default that of
            each at the first step.

    Raises:
        HyperparameterError: If `radius` is not positive.
        LeafError: If a parameter is complex.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Wen et al., "Fantastic Pretraining Optimizers and Where to Find Them II: Hyperball
        Optimization", 2026. https://arxiv.org/abs/2606.16899
    """

    radius: Scalar | None = None
    elementwise = False
    needs_params = True
    comes_last = True
    batched = True

    def __post_init__(self) -> None:
        if self.radius is not None:
            checks.positive(self, "radius", self.radius)

    def init_tensor(self, p: Tensor) -> KeepNormSlots:
        if self.radius is not None:
            return KeepNormSlots(())
        return KeepNormSlots(torch.zeros((), dtype=widen(p.dtype), device=p.device))

    def update_tensor(
        self, g: Tensor, slots: KeepNormSlots, p: Tensor, s: Scalars
    ) -> tuple[Tensor, Slots]:
        aim = p + g
        if s.radius is not None:
            return _with_norm(aim, s.radius) - p, slots
        norm = torch.where(slots.norm > 0, slots.norm, _norm(p))
        after = torch.where(norm > 0, _with_norm(aim, norm), p)
        return after - p, KeepNormSlots(norm)


def _norm(x: Tensor) -> Tensor:
    return sqrt(x.square().sum())


def _with_norm(x: Tensor, norm: Any) -> Tensor:
    """`x` with this norm, or 0."""
    before = _norm(x)
    scaled: Tensor = x * (norm / torch.where(before == 0, 1.0, before))
    return scaled
