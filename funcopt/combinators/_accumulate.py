"""Gradient accumulation: one update for several micro-batches."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation
from .._numerics import shards
from .._numerics.scalars import at, double, is_unset, number, unset_like, widen
from ..errors import HyperparameterError
from ..typing import Memory, Schedule, Slots
from ._inner import check_inner, exchanges
from ._wrapper import Wrapper


class AccumulateSlots(NamedTuple):
    """The slots of `accumulate`."""

    grad_sum: Tensor  # like p: sum of the gradients since the last update; -0 if there is none
    inner: Slots


class AccumulateMemory(NamedTuple):
    """The shared scalars of `accumulate`."""

    micro_step: Tensor  # (), int64: gradients since the last update
    inner_updates: Tensor  # (), int64: updates that `inner` has made, for its schedules
    inner: Memory


class accumulate(Wrapper):
    """Accumulates the gradients of `steps` calls, and passes their mean to `inner` at the last.

        sum <- sum + g
        u = inner(sum / steps), sum <- 0     at every call that is the last of `steps`
        u = 0                                at the others

    So `inner` runs once for all of them: its clipping, its schedules, its noise and its decay apply
    to real updates. The sum is stored in `state_dtype`, else in at least float32, and where Python
    can read the step count, the other calls cost no more than the addition. A NaN is dropped with
    the update that it spoils.

    With a schedule, batches grow in training: `steps` of the number of updates made so far, rounded
    up, and at least 1, is the length of the next window. The same as `every_k_schedule` of Optax.

    All calls of a window together are one batch: a parameter with a gradient in any of them is
    updated at the last, and a missing gradient counts as zero, also in the stages around this one
    from the first gradient of the window on. A parameter without any keeps its value, as
    everywhere. In a `partition`, only calls count in which a parameter of the label takes part.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        steps: The number of gradients per update, or a schedule of it.
        mean: Pass the mean of the gradients to `inner`, or else their sum.
        state_dtype: Storage dtype of the sum, such as `torch.bfloat16` to save memory, in which it
            is rounded at every call.

    Raises:
        HyperparameterError: If `steps` is neither a positive integer nor a schedule, or `inner`
            evaluates the loss itself, or takes whole trees or per-example gradients.
    """

    inner: GradientTransformation
    steps: int | Schedule
    mean: bool = True
    state_dtype: torch.dtype | None = None
    memory_per = "tree"
    defers = True
    decides = True
    follows_counts = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        if callable(self.steps) and not isinstance(self.steps, type):
            checks.takes(self, "steps", self.steps, ("updates",))
        else:
            checks.whole_number(self, "steps", self.steps, least=1)
        if self.inner.needs_closure:
            raise HyperparameterError(
                f"`accumulate`: {self.inner!r} evaluates the loss itself, and would see that of "
                "the last micro-batch only. Accumulate inside, as in "
                "`sam(accumulate(inner, steps))`, or in the closure."
            )

    def window(self, updates: Any) -> Any:
        """The number of gradients of the next update, after so many of these."""
        if not callable(self.steps):
            return self.steps
        steps = at(self.steps, updates)
        if isinstance(steps, Tensor):
            return double(steps).ceil().clamp(min=1)
        return max(1, math.ceil(steps))

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        nothing = unset_like(p, self.state_dtype or widen(p.dtype))
        return AccumulateSlots(nothing, self.clocked().init_slots(name, p))

    def owes(self, slots: Any) -> Any:
        total = shards.local(slots.grad_sum)
        first = (torch.view_as_real(total) if total.is_complex() else total).reshape(-1)[:1]
        some = is_unset(first).logical_not().any()
        if not shards.is_sharded(slots.grad_sum):
            return some
        return shards.reduce_over_ranks("max", some.to(torch.float32), slots.grad_sum) > 0

    def init_memory(self, like: Tensor) -> Memory:
        zero = torch.zeros((), dtype=torch.int64)
        return AccumulateMemory(zero, zero.clone(), self.clocked().init_memory(like))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        memory = [b.memory for b in buckets]
        rows = [{"steps": self.window(number(own.inner_updates))} for own in memory]
        rules = [b.tx for b in buckets]
        return Node(rules, rows, memory, members, [self.open_inner(buckets, members)])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        old = node.memory
        micro, made = old[0].micro_step + 1, old[0].inner_updates
        full = number(micro) >= node.rows[0]["steps"]
        # Ranks that hold other tensors may be elsewhere in the window, and wait for this one.
        both = node.members.ranks.share_tensors and exchanges(self.inner)
        sums = [own.grad_sum + (g + 0.0) for own, g in zip(slots, gs, strict=True)]
        inner, child = [own.inner for own in slots], node.children[0]

        def update() -> Any:
            grads = sums
            if self.mean:
                each = zip(sums, node.scalars(sums), strict=True)
                grads = [total / s.steps for total, s in each]
            us, new = self.clocked().run(grads, inner, ps, child, reduce)
            after = self.clocked().memory_after(child)
            return us, new, after, [torch.full_like(x, -0.0) for x in sums], micro * 0, made + 1

        def wait() -> Any:
            nothing = [torch.full_like(g, -0.0) for g in gs]
            return nothing, inner, [m.inner for m in old], sums, micro, made

        us, new, memory, sums, micro, made = node.select(full, update, wait, both=both)
        node.memory = [AccumulateMemory(micro, made, own) for own in memory]
        return us, [AccumulateSlots(*own) for own in zip(sums, new, strict=True)]
