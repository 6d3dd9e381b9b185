"""Weighted sums of the updates of several transformations."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from .._core import checks
from .._core.compact import in_message
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation
from ..typing import Scalar
from ._branches import Branches, sign_of


class weighted_sum(Branches):
    """Adds up the updates of several transformations, each with a weight.

        u = weights[0] transforms[0](g) + weights[1] transforms[1](g) + ...

    All are given the same updates, and each has its own state. The gradient itself is `identity`,
    so this is GrokFast, which adds a slow average of the gradient to it:

        weighted_sum((identity(), trace(0.98, dampening=0.98)), weights=(1.0, 2.0))

    Shapes: any. Slots are a tuple of those of all.

    Args:
        transforms: The transformations, which work tensor by tensor; at least one.
        weights: The weight of each; any numbers.

    Raises:
        HyperparameterError: If there are not as many weights as transformations; if one of these
            takes whole trees or per-example gradients, or has a stage that has to come last.

    References:
        Lee et al., "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", 2024.
        https://arxiv.org/abs/2405.20233
    """

    transforms: tuple[GradientTransformation, ...]
    weights: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, (tuple, list)) or not self.transforms:
            got = f"got {in_message(self.transforms)}."
            said = f"must be a tuple of transformations, {got}"
            checks.refuse(self, "transforms", self.transforms, said)
        self.check_branches()
        checks.coefficients(self, "weights", self.weights, count=len(self.transforms))

    def children(self) -> dict[str, GradientTransformation]:
        return {str(i): tx for i, tx in enumerate(self.transforms)}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> "weighted_sum":
        return self.replace(transforms=tuple(children.values()))

    def sign(self) -> int | None:
        numbers = [w for w in self.weights if not (isinstance(w, Tensor) or callable(w))]
        negative, made = {w < 0 for w in numbers}, sign_of(self.transforms)
        if len(numbers) < len(self.weights) or len(negative) > 1 or made is None:
            return None
        return -made if negative.pop() else made

    def open_merge(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [b.tx.evaluated(b.count) for b in buckets]
        return Node(rules, [x.hyperparam_values() for x in rules], [() for _ in rules], members)

    def merge(self, us: Sequence[list[Tensor]], node: Node, reduce: Reduce) -> list[Tensor]:
        sums = []
        for each, s in zip(zip(*us, strict=True), node.scalars(us[0]), strict=True):
            total, *more = (u * w for u, w in zip(each, s.weights, strict=True))
            sums.append(sum(more, total))
        return sums
