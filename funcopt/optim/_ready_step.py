"""The ready step: one that is like the one before, as a few calls of machine code find out.

A plan says what a step has to know, and checks it. For small jobs, that takes longer than the step.
Here, all that a plan and the engine rely on is compared at once; where anything differs, the step
is made in the usual way, which finds out what it is.
"""

import array
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._core.stage import Bucket, Node
from .._core.tensor_rule import PerTensor
from .._numerics.autocast import forget_casts
from ..engine import (
    ContentsGuard,
    Engine,
    GuardFailed,
    MemoryNumbers,
    ReadyGuard,
    ReadyKernels,
    Unsupported,
)
from ._clocks import StateColumn
from ._options import Options
from ._passed_values import PassedValues
from ._scheduled import ScheduledValues
from ._state import State
from ._step_plan import StepPlan

PAYS = 16
"""So many ready steps save the time of getting ready."""


def is_time_for(repeated: int, patience: int) -> bool:
    """Whether to get ready for a further step, after so many that were like the one before.

    That takes as long as a few steps, so it is tried again less and less often.
    """
    return repeated > patience and repeated & (repeated - 1) == 0  # a power of 2


def ready_step(
    plan: StepPlan,
    engine: Engine,
    node: Node,
    param_groups: list[Options],
    state: State,
    measure_group: Any,
    scheduled: ScheduledValues,
    updates: Tensor | None,
) -> "ReadyStep | None":
    """The next step, if it can be made ready: a plan and the node of the last one are at hand.

    `updates` is how many there were, if there are schedules.
    """
    if plan.device is not None:  # where to ask for the counts is a launch
        return None
    if updates is not None and not scheduled.see_updates(param_groups, state, updates):
        return None
    known = plan.numbers_in_memory()
    memory, numbers = known or ((), MemoryNumbers())
    try:
        lent = plan.lend(memory, numbers)
        buckets = plan.buckets(updates)
        kernels = engine.ready(node, buckets, known and numbers)
        if kernels is None:
            return None
        of = param_groups, state, measure_group
        shows = None if updates is None else scheduled
        return ReadyStep(plan, kernels, buckets, lent, (memory, numbers), of, shows)
    except Unsupported:
        return None


class ReadyStep:
    """A step of the parameters of a plan, by kernels that have made it.

    Until `close`, it counts in the place of the plan.

    Raises:
        Unsupported: If there is something that has to be found out in every step.
    """

    def __init__(
        self,
        plan: StepPlan,
        kernels: ReadyKernels,
        buckets: list[Bucket],
        lent: tuple[ReadyGuard, float],
        memory: tuple[Sequence[StateColumn], MemoryNumbers],
        of: tuple[list[Options], State, Any],
        scheduled: ScheduledValues | None,
    ) -> None:
        self.plan, self._kernels, self._buckets = plan, kernels, buckets
        self._scheduled = scheduled
        self._of = of
        self._guard, self._left = lent
        self._memory, self._numbers = memory
        self._guard.pass_on_to(kernels.places())
        self._contents = self._contents_now()
        self._passed = PassedValues(plan.groups, plan, kernels)
        self._made = 0

    def _contents_now(self) -> ContentsGuard:
        param_groups = self._of[0]
        return ContentsGuard(param_groups, [param_groups, *(x["params"] for x in param_groups)])

    def make(self, *of: Any) -> tuple[PerTensor, Node] | None:
        """Makes the step of these groups and this state, if it is like the one before.

        Returns:
            The transformation and its node; `None` if nothing has been done.
        """
        groups, state, measure_group = self._of
        if of[0] is not groups or of[1] is not state or of[2] is not measure_group:
            return None
        if self._left <= 0 or not self.plan.others_hold(self._memory):
            return None
        as_before = not self.plan.values_may_change and self._contents.holds()
        if not as_before:
            if self._scheduled is not None and not self._scheduled.are_shown(groups):
                return None  # it is said that a value cannot be set
            if not (self._has_passed_values() or self._has_other_values()):
                return None
        if self._kernels.waits:
            self._kernels.settle(self._buckets, as_before)
        guard = self._guard
        if not guard.load():
            return None
        try:
            node = self._kernels(self._buckets)
        except GuardFailed:
            return None
        finally:
            guard.release()
        tx = self._buckets[0].tx
        if self.plan.has_memory and not self._kernels.keeps_memory:
            self.plan.keep(tx.memory_after(node))
            self._read_memory()
        guard.count()
        self._made, self._left = self._made + 1, self._left - 1
        self._buckets = [b._replace(step=b.step + 1, count=b.count + 1) for b in self._buckets]
        if self._scheduled is not None:
            self._show(self._scheduled)
        forget_casts()
        return tx, node

    def _show(self, scheduled: ScheduledValues) -> None:
        """Has groups show the values of the next step, which it is to hold."""
        self.plan.count_update()
        for shown in scheduled.show_after(self._of[0], self._buckets[0].count):
            self._contents.put(*shown)

    def _has_passed_values(self) -> bool:
        """Whether groups have no more than other values, which are passed on to the kernels.

        The transformations keep theirs: whoever needs these makes them of the groups.
        """
        if self.plan.values_may_change:  # another one, which is the same object
            return False
        changes = self._contents.changes()
        if not changes or not self._passed.take(self._of[0], changes):
            return False
        self._contents.take_over()
        return bool(self._contents.holds())

    def _has_other_values(self) -> bool:
        """Whether groups have other values for the same transformation; the next step has them."""
        if not self.plan.groups_hold(self._of[0]):
            return False
        each = zip(self._buckets, self.plan.transformations(), strict=True)
        buckets = [b._replace(tx=tx) for b, tx in each]
        if not self._kernels.exchange(self._buckets, buckets):
            return False
        self._buckets = buckets
        self._contents = self._contents_now()
        self._passed.forget()
        return True

    def _read_memory(self) -> None:
        """Reads numbers that others have written."""
        for k, (column, left) in enumerate(zip(self._memory, self._guard.columns, strict=True)):
            left[:] = array.array(left.typecode, column.numbers())
            self._numbers[k] = left[0]

    @property
    def has_paid(self) -> bool:
        """Whether it has made more steps than it took to get ready."""
        return self._made >= PAYS

    def close(self) -> None:
        """Lets the plan go on."""
        self.plan.take_back(self._guard, self._made, self._memory)
