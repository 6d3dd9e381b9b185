"""Skipping updates on a condition, such as a gradient that is not finite."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.reduction import Reduce
from .._core.select import unless
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation, Part, Ran, TensorRule, below
from .._numerics.scalars import beside, moved, sqrt
from ..errors import HyperparameterError
from ..typing import Memory, Scalar, Slots
from ._inner import check_inner, exchanges
from ._wrapper import Wrapper


class not_finite(TensorRule):
    """A condition for `skip_if`: an entry of a gradient is infinite or NaN."""

    elementwise = True
    memory_per = "tree"

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return (~g.isfinite()).sum()

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[dict[str, Any], Memory]:
        return {"skip": total > 0}, memory

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g, slots


class NormMemory(NamedTuple):
    """The shared scalars of `norm_outlier`."""

    norms: Tensor  # (), int64: the number of norms so far, without the outliers
    mean: Tensor  # (): their EMA
    variance: Tensor  # (): the EMA of their squared deviation


class norm_outlier(TensorRule):
    """A condition for `skip_if`: the z-score of the global norm is above a threshold.

        norm > mean + zscore sqrt(variance),   or norm is not finite

    Mean and variance are exponential moving averages over the norms that were not outliers; during
    the first `warmup` of them only norms that are not finite are outliers.

    Args:
        zscore: The z-score threshold; positive.
        decay: Decay rate of the averages, in [0, 1).
        warmup: The number of norms before the threshold applies.

    Raises:
        HyperparameterError: If a hyperparameter is out of range.

    References:
        OLMo et al., "2 OLMo 2 Furious", 2024, https://arxiv.org/abs/2501.00656, skips steps so.
    """

    zscore: Scalar = 6.0
    decay: Scalar = 0.99
    warmup: int = 20
    elementwise = True
    memory_per = "tree"

    def __post_init__(self) -> None:
        checks.positive(self, "zscore", self.zscore)
        checks.in_unit_interval(self, "decay", self.decay)
        checks.whole_number(self, "warmup", self.warmup, least=1)

    def init_memory(self, like: Tensor) -> NormMemory:
        return NormMemory(torch.zeros((), dtype=torch.int64), like.clone(), like.clone())

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Tensor:
        return g.square().sum()

    def conclude(self, s: Scalars, memory: NormMemory, total: Any) -> tuple[dict[str, Any], Memory]:
        norm = sqrt(total).to(memory.mean.dtype)
        limit = memory.mean + s.zscore * sqrt(memory.variance)
        skip = ~norm.isfinite() | ((memory.norms >= self.warmup) & ~(norm <= limit))
        usual = torch.where(skip, memory.mean, norm)
        # While the averages are young, each norm counts as much as those before it.
        newest = beside(norm, 1 - s.decay)
        weight = torch.maximum(newest, 1 / (memory.norms + 1)).to(norm)
        off = usual - memory.mean
        mean = memory.mean + weight * off
        variance = (1 - weight) * (memory.variance + weight * off * off)
        new = NormMemory(
            torch.where(skip, memory.norms, memory.norms + 1),
            mean,
            torch.where(skip, memory.variance, variance),
        )
        return {"skip": skip, "norm": norm}, new

    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        return g, slots


class SkipSlots(NamedTuple):
    """The slots of `skip_if`."""

    when: Slots
    inner: Slots


class SkipMemory(NamedTuple):
    """The shared scalars of `skip_if`."""

    skipped: Tensor  # (), int64: updates that were not made
    inner_updates: Tensor  # (), int64: updates that were made, for schedules
    when: Memory
    inner: Memory


class skip_if(Wrapper):
    """Skips the updates on which a condition holds.

        tx = skip_if(adamw(1e-3), not_finite())

    On a skipped step, the parameters and the slots, step counts and schedules of `inner` keep their
    values exactly; `skipped` in the memory counts such steps. There is no synchronization with a
    device, and no limit after which a bad update would be made after all.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        when: The condition: a `TensorRule` whose `conclude` returns a scalar ``skip``, such as
            `not_finite` and `norm_outlier`.

    Raises:
        HyperparameterError: If `inner` takes whole trees or per-example gradients, or `when` is not
            such a rule; from `update`, if it returns no ``skip``.
    """

    inner: GradientTransformation
    when: GradientTransformation = not_finite()
    memory_per = "tree"
    decides = True
    follows_counts = True
    metrics = ("skipped",)

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        if not isinstance(self.when, TensorRule) or self.when.memory_per != "tree":
            raise HyperparameterError(
                "`skip_if`: `when` must be a condition such as `not_finite()`, a `TensorRule` with "
                f'`memory_per = "tree"`, got {self.when!r}.'
            )

    def children(self) -> dict[str, GradientTransformation]:
        return {"when": self.when, "inner": self.inner}

    def extra_names(self) -> frozenset[str] | None:
        return (self.inner.extra_names() or frozenset()) | self._condition.extra

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return SkipSlots(self._condition.init_slots(name, p), self.clocked().init_slots(name, p))

    def init_memory(self, like: Tensor) -> Memory:
        zero = torch.zeros((), dtype=torch.int64)
        when, inner = self._condition.init_memory(like), self.clocked().init_memory(like)
        # All of it depends on a flag that is found on the device, so it is kept there.
        memory = SkipMemory(zero, zero.clone(), when, inner)
        return tree.map(lambda x: moved(x, like.device), memory)

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rows = [b._replace(tx=b.tx.when, memory=b.memory.when) for b in buckets]
        children = [self._condition.open(rows, members), self.open_inner(buckets, members)]
        return Node([], [], [b.memory for b in buckets], members, children)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        if node.members.nobody_waits:
            return gs, slots
        old, (when, child) = node.memory, node.children
        # Communication between ranks happens on all of them, whatever each of them finds here.
        both = node.members.ranks.crossed(node.members.spans) and exchanges(self.inner)
        skipped, made = old[0].skipped, old[0].inner_updates
        seen = self._looked_at(gs, slots, ps, when, reduce)
        if "skip" not in when.rows[0]:
            raise HyperparameterError(
                "`skip_if`: `when` must be a condition, whose `conclude` returns `skip`, and "
                f"{self.when!r} returns none: return `{{'skip': ...}}, memory`, as `not_finite` "
                "does."
            )
        skip, inner = when.rows[0]["skip"], [own.inner for own in slots]

        def leave_out() -> Any:
            nothing = [torch.full_like(g, -0.0) for g in gs]
            return nothing, inner, [m.inner for m in old], skipped + 1, made

        def update() -> Any:
            good = unless(skip, gs, both=both)
            us, new = self.clocked().run(good, inner, ps, child, reduce)
            return us, new, self.clocked().memory_after(child), skipped, made + 1

        us, new, memory, skipped, made = node.select(skip, leave_out, update, both=both)
        each = zip(self._condition.memory_after(when), memory, strict=True)
        node.memory = [SkipMemory(skipped, made, *own) for own in each]
        node.rows = [{"skipped": skipped}]
        return us, [SkipSlots(*own) for own in zip(seen, new, strict=True)]

    def _looked_at(
        self, gs: list[Tensor], slots: list[Any], ps: list[Tensor], when: Node, reduce: Reduce
    ) -> list[Slots]:
        """Runs the condition. A flag has no derivative, so none is taken of what it comes from."""
        if torch.is_grad_enabled():
            gs = [g.detach() for g in gs]
        return self._condition.run(gs, [own.when for own in slots], ps, when, reduce)[1]

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        when = self._condition.counts(count, memory.when)
        return {**super().counts(count, memory), **below("when", when)}

    def slot_parts(self, slots: SkipSlots, name: str | None, p: Tensor) -> list[Part]:
        when = self._condition.slot_parts(slots.when, name, p)
        inner = self.clocked().slot_parts(slots.inner, name, p)
        return [(self, ()), *when, *inner]

    def memory_parts(self, memory: SkipMemory, name: str | None, p: Tensor) -> list[Part]:
        when = self._condition.memory_parts(memory.when, name, p)
        inner = self.clocked().memory_parts(memory.inner, name, p)
        return [(self, memory._replace(when=(), inner=())), *when, *inner]

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        when = self._condition.nodes(node.children[0], buckets)
        return {**below("when", when), **super().nodes(node, buckets)}

    @property
    def _condition(self) -> TensorRule:
        return self.when  # type: ignore[return-value]  # as checked when made
