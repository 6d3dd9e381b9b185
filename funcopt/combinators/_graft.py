"""Grafting: the direction of one transformation, with the norm of another."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, TensorRule
from .._numerics.scalars import sqrt, where
from ..typing import Memory, Scalar, Slots
from ._branches import Branches

PER = ("tensor", "tree")


class NormsSquared(NamedTuple):
    """The measurement of one tensor."""

    of_magnitude: Tensor  # (): the sum of the squares of the update of `magnitude`
    of_direction: Tensor  # (): that of `direction`


class grafting(TensorRule):
    """Gives an update `g` the norm of another one, given as `p`; before `start`, is that one."""

    eps: Scalar
    start: int = 1
    elementwise = True
    needs_params = True
    measure_per: ClassVar[Literal["tree", "tensor"]] = "tensor"

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> NormsSquared:
        return NormsSquared(p.square().sum(), g.square().sum())

    def prepare(self, step: Any, memory: Memory) -> dict[str, Any]:
        begun = step >= self.start
        return {"of_direction": where(begun, 1.0, 0.0), "of_magnitude": where(begun, 0.0, 1.0)}

    def conclude(
        self, s: Scalars, memory: Memory, total: NormsSquared
    ) -> tuple[dict[str, Any], Memory]:
        return {"ratio": sqrt(total.of_magnitude) / (sqrt(total.of_direction) + s.eps)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        u = g * s.ratio
        return u if self.start == 1 else s.of_direction * u + s.of_magnitude * p, slots


class grafting_of_trees(grafting):
    """The same, with the norms over all tensors."""

    measure_per = "tree"


class graft(Branches):
    """Steps in the direction of one transformation, with the norm of the update of another.

        u = d norm(m) / (norm(d) + eps)        m = magnitude(g),  d = direction(g)

    with ``norm(x) = sqrt(sum of the squares)`` over one tensor, or over all of them. Both are given
    the same updates, and each has its own state. In the updates before `start`, u = m, while the
    state of `direction` is made. So a preconditioner whose scale means little takes over the
    learning rate, and the schedule, that an optimizer was tuned with:

        chain(graft(scale_by_adam(), scale_by_shampoo()), scale_by_learning_rate(1e-3))

    Shapes: any; on shards the norms are over all of the tensor. Slots are a tuple of those of both.

    Args:
        magnitude: The transformation whose update has the norm; works tensor by tensor.
        direction: The transformation whose update has the direction; works tensor by tensor.
        per: Whether norms are of each tensor alone, "tensor", or of all together, "tree".
        eps: Added to the norm of the direction, in its units; positive. 1e-16 as in Distributed
            Shampoo.
        start: The first update in the direction of `direction`.

    Raises:
        HyperparameterError: If `eps` or `start` is not positive, or `per` something else; if one of
            the transformations takes whole trees or per-example gradients, or has a stage that has
            to come last.

    References:
        Agarwal et al., "Disentangling Adaptive Gradient Methods from Learning Rates", 2020.
        https://arxiv.org/abs/2002.11803; Shi et al., "A Distributed Data-Parallel PyTorch
        Implementation of the Distributed Shampoo Optimizer", 2023, https://arxiv.org/abs/2309.06497
    """

    magnitude: GradientTransformation
    direction: GradientTransformation
    per: Literal["tensor", "tree"] = "tensor"
    eps: Scalar = 1e-16
    start: int = 1

    def __post_init__(self) -> None:
        self.check_branches()
        checks.choice(self, "per", self.per, PER)
        checks.positive(self, "eps", self.eps)
        checks.whole_number(self, "start", self.start, least=1)

    @property
    def measures_tensors(self) -> bool:  # type: ignore[override]
        return self.per == "tensor"

    @property
    def measures_tree(self) -> bool:  # type: ignore[override]
        return self.per == "tree"

    def children(self) -> dict[str, GradientTransformation]:
        return {"magnitude": self.magnitude, "direction": self.direction}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> "graft":
        return self.replace(**children)

    def sign(self) -> int | None:
        return self.direction.sign()

    def open_merge(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [b._replace(tx=b.tx._rule(), memory=()) for b in buckets]
        return self._rule().open(rules, members)

    def merge(self, us: Sequence[list[Tensor]], node: Node, reduce: Reduce) -> list[Tensor]:
        magnitudes, directions = us
        nothing: list[Slots] = [()] * len(directions)
        return self._rule().run(directions, nothing, magnitudes, node, reduce)[0]

    def _rule(self) -> grafting:
        return (grafting if self.per == "tensor" else grafting_of_trees)(self.eps, self.start)
