"""Cautious updates: steps only where update and gradient have the same sign."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, TensorRule
from .._numerics.scalars import count
from ..errors import HyperparameterError
from ..typing import Memory, Scalar, Slots
from ._around import Around
from ._inner import check_inner
from ._order import refuse_last


class Agreement(NamedTuple):
    """The counts of one tensor."""

    agreeing: Tensor  # ()
    entries: Tensor  # ()


class agreement(TensorRule):
    """Keeps the entries of an update `g` that have the sign of the gradient, given as `p`."""

    floor: Scalar
    downhill: bool
    elementwise = True
    needs_params = True
    measure_per = "tensor"

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Agreement:
        return Agreement(self._agrees(g, p).to(g.dtype).sum(), count(g))

    def conclude(
        self, s: Scalars, memory: Memory, total: Agreement
    ) -> tuple[dict[str, Any], Memory]:
        mean = total.agreeing / total.entries.clamp(min=1.0)
        return {"factor": 1 / mean.clamp(min=s.floor)}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g * (self._agrees(g, p) * s.factor), slots  # so that a NaN stays one

    def _agrees(self, u: Tensor, g: Tensor) -> Tensor:
        return u * g < 0 if self.downhill else u * g > 0


class cautious(Around):
    """Masks the entries of the updates of `inner` whose sign is not that of the gradient.

        mask = 1 where u g > 0, else 0
        u    <- u mask / max(mean(mask), floor)        u = inner(g)

    g is the input of this stage, and the mean is over one tensor, on all of its ranks. Put the
    weight decay after it, as the paper does:

        chain(cautious(scale_by_adam()), add_decayed_weights(0.01), scale_by_learning_rate(1e-3))

    Where `inner` negates the updates, by a `scale_by_learning_rate` of its own, the mask is 1 where
    ``u g < 0``. The state is that of `inner`.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        floor: Lower bound of the mean in the denominator; positive. 1e-3 as in the authors' code.

    Raises:
        HyperparameterError: If `floor` is not positive; if it is not known whether `inner` negates
            the updates; if `inner` takes whole trees or per-example gradients, or has a stage that
            has to come last.

    References:
        Liang et al., "Cautious Optimizers: Improving Training with One Line of Code", 2024.
        https://arxiv.org/abs/2411.16085
    """

    inner: GradientTransformation
    floor: Scalar = 1e-3
    measures_tensors = True
    replayable = True
    follows_counts = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        if self.inner.sign() is None:
            raise HyperparameterError(
                "`cautious`: it must be known whether `inner` negates the updates, and for "
                f"{self.inner!r} it is not: multiply by a tensor or a schedule outside, or by "
                "`scale_by_learning_rate`; put `cautious` inside of a partition that freezes."
            )
        checks.positive(self, "floor", self.floor)
        refuse_last(self, self.inner)

    # As one pass: what `inner` does, and then a rule that is given the gradient as `p`.

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        inner = [b._replace(tx=b.tx.inner) for b in buckets]
        rules = [agreement(b.tx.floor, b.tx.sign() == -1) for b in buckets]
        masks = [b._replace(tx=rule, memory=()) for b, rule in zip(buckets, rules, strict=True)]
        children = [self._inner.open(inner, members)]
        if rules:
            children.append(rules[0].open(masks, members))
        return Node([], [], [b.memory for b in buckets], members, children)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        us, new = self._inner.run(gs, slots, ps, node.children[0], reduce)
        if us:
            mask = node.children[1]
            us, _ = mask.rules[0].run(us, [()] * len(us), gs, mask, reduce)
        return us, new
