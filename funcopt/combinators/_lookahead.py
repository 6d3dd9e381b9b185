"""Lookahead: k steps forward, 1 step back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks, precision
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, Scalars
from .._core.tensor_rule import GradientTransformation
from .._numerics.scalars import number
from ..typing import Memory, Scalar, Slots
from ._inner import check_inner
from ._order import refuse_last
from ._wrapper import Wrapper


class LookaheadSlots(NamedTuple):
    """The slots of `lookahead`."""

    slow: Tensor  # like p: the parameter at the last sync
    slow_momentum_buffer: Any  # like p: momentum of the slow steps; () without slow_momentum
    inner: Slots


class LookaheadMemory(NamedTuple):
    """The shared scalars of `lookahead`."""

    inner_updates: Tensor  # (), int64: updates made, for the schedules of `inner`
    inner: Memory


class lookahead(Wrapper):
    """Updates by `inner`, and interpolates with slow parameters every `sync_period` updates.

    With the update u that `inner` makes, a sync at every update whose number is divisible by
    `sync_period`:

        slow <- slow + slow_step_size (p + u - slow),   p <- slow     at a sync
        p <- p + u                                                    at the others

    The parameters are the fast ones; the slow ones, kept in slots, are the averaged weights, used
    for evaluation: `eval_params` and `Optimizer.eval`. Where Python can read the step count, an
    update without a sync costs no more than that of `inner`. A parameter without a gradient at a
    sync waits for the next one.

    With `slow_momentum` mu, the slow step is one of SGD with Nesterov momentum, on the difference
    of slow and fast parameters, as that of the outer optimizer of DiLoCo with one worker:

        d = slow - (p + u),   b <- mu b + d
        slow <- slow - slow_step_size (d + mu b),   p <- slow     at a sync

    With `reset`, slots, memory and bias corrections of `inner` are initialized again after every
    sync. Its schedules continue. (In Optax they restart too.)

    Args:
        inner: The inner transformation, which works tensor by tensor.
        sync_period: The number of updates from one sync to the next.
        slow_step_size: The step size of the slow parameters, in [0, 1].
        reset: Reset the state of `inner` at every sync.
        state_dtype: Storage dtype of the slow parameters and their momentum, else that of the
            parameter.
        slow_momentum: Decay rate of the momentum of the slow steps, in [0, 1); `None` for none.

    Raises:
        HyperparameterError: If a hyperparameter is out of range; if `inner` takes whole trees or
            per-example gradients, or has a stage that has to come last.
        MissingParamsError: If `update` is not given the parameters.

    References:
        Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019.
        https://arxiv.org/abs/1907.08610. Douillard et al., "DiLoCo: Distributed Low-Communication
        Training of Language Models", 2023, https://arxiv.org/abs/2311.08105, for the momentum.
    """

    inner: GradientTransformation
    sync_period: int = 6
    slow_step_size: Scalar = 0.5
    reset: bool = False
    state_dtype: torch.dtype | None = None
    slow_momentum: Scalar | None = None
    memory_per = "tree"
    averages = True
    follows_counts = True

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        checks.whole_number(self, "sync_period", self.sync_period, least=1)
        checks.fraction(self, "slow_step_size", self.slow_step_size)
        if self.slow_momentum is not None:
            checks.in_unit_interval(self, "slow_momentum", self.slow_momentum)
        refuse_last(self, self.inner)

    @property
    def decides(self) -> bool:  # type: ignore[override]
        return not self.reset  # which makes new slots

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return True

    def params_needed_by(self) -> str | None:
        return type(self).__name__

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        slow = p.to(self.state_dtype or p.dtype, copy=True)
        buffer = () if self.slow_momentum is None else torch.zeros_like(slow)
        return LookaheadSlots(slow, buffer, self.clocked().init_slots(name, p))

    def init_memory(self, like: Tensor) -> Memory:
        zero = torch.zeros((), dtype=torch.int64)
        return LookaheadMemory(zero, self.clocked().init_memory(like))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [b.tx.evaluated(b.count) for b in buckets]
        rows = [rule.hyperparam_values() for rule in rules]
        memory = [b.memory for b in buckets]
        return Node(rules, rows, memory, members, [self.open_inner(buckets, members)])

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        child, made = node.children[0], node.memory[0].inner_updates + 1
        us, inner = self.clocked().run(gs, [own.inner for own in slots], ps, child, reduce)
        slow, memory = [own.slow for own in slots], self.clocked().memory_after(child)
        buffers = [own.slow_momentum_buffer for own in slots]

        def sync() -> Any:
            each = zip(slow, buffers, ps, us, node.scalars(ps), strict=True)
            made = [_slow_step(back, b, p + u, s) for back, b, p, u, s in each]
            new = [back for back, _ in made]
            steps = [q - p for q, p in zip(new, ps, strict=True)]
            rest = self._anew(new, node) if self.reset else (inner, memory)
            return steps, new, [b for _, b in made], *rest

        flag = number(made % self.sync_period) == 0
        us, slow, buffers, inner, memory = node.select(
            flag, sync, lambda: (us, slow, buffers, inner, memory)
        )
        node.memory = [LookaheadMemory(made, own) for own in memory]
        return us, [LookaheadSlots(*own) for own in zip(slow, buffers, inner, strict=True)]

    def _anew(self, ps: list[Tensor], node: Node) -> tuple[list[Slots], list[Memory]]:
        """The initial slots and memory of `inner` at the parameters `ps`."""
        tx, members = self.clocked(), node.members
        given = [precision.lower(p, x) for p, x in zip(ps, members.tensors, strict=True)]
        slots = [
            precision.lift_slots(tx.init_slots(name, x), x, p.dtype)
            for name, x, p in zip(members.names(), given, ps, strict=True)
        ]
        return slots, [tx.init_memory(precision.zero_like(given)) for _ in node.memory]

    def eval_param(self, name: str | None, p: Tensor, slots: Any, memory: Any) -> Tensor:
        slow: Tensor = slots.slow
        return slow.to(p.dtype)


def _slow_step(slow: Tensor, buffer: Any, fast: Tensor, s: Scalars) -> tuple[Tensor, Any]:
    """The slow parameter after a sync, and its momentum."""
    if s.slow_momentum is None:
        return slow + s.slow_step_size * (fast - slow), buffer
    d = slow - fast
    buffer = s.slow_momentum * buffer + d
    return slow - s.slow_step_size * (d + s.slow_momentum * buffer), buffer
