"""A line search along the update of any transformation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.compact import in_message
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node, common_scalars
from .._core.tensor_rule import GradientTransformation
from .._core.vector import Space
from ..errors import HyperparameterError
from ..transforms import LineSearch, Point, backtracking, search_along
from ..typing import Memory, Scalar, Slots
from ._around import Around
from ._inner import check_inner
from ._order import refuse_last


class LineSearchMemory(NamedTuple):
    """The shared scalars of `line_search`."""

    step_size: Tensor  # (): the last one, or after a search without a step, what to try next
    func_evals: Tensor  # (), int64: evaluations of the loss and its gradient so far
    inner: Memory


class line_search(Around):
    """Scales the update of `inner` by a step size for which the loss decreases enough.

        u = inner(g)
        t = search along u, first by min(increase_factor t, max_step_size)
        u <- t u

    t is one number for all parameters, at first 1. `inner` makes whole steps, in a direction of
    descent: ``line_search(sgd(1.0))``. Where u is no such direction, as that of momentum or Adam at
    times, u becomes 0 and t keeps its value. Where the search finds no step, u becomes 0 too, and
    the next search goes on below the last try. Slots and step counts of `inner` have changed
    nevertheless. Slots are those of `inner`.

    The loss is evaluated for each try, so ``update`` needs it as the extra argument `value_fn`, and
    an `Optimizer` a closure. It must be the same function in all evaluations: no dropout. `value`,
    the loss at the parameters, saves one of them. Nothing may change the gradient before this
    stage, nor the update after it: put clipping and decay inside.

    Args:
        inner: The inner transformation, which works tensor by tensor.
        search: `backtracking` or `strong_wolfe`.
        increase_factor: The first try relative to the last step size; at least 1. With `math.inf`,
            every search starts at `max_step_size`.
        max_step_size: Upper bound of the first try; positive.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `search` is not a line search;
            if `inner` does not negate its updates, evaluates the loss itself, takes whole trees or
            per-example gradients, or has a stage that has to come last.

    References:
        Vaswani et al., "Painless Stochastic Gradient: Interpolation, Line-Search, and Convergence
        Rates", NeurIPS 2019, https://arxiv.org/abs/1905.09997; Nocedal & Wright, "Numerical
        Optimization", 2006, chapter 3
    """

    inner: GradientTransformation
    search: LineSearch = backtracking()
    increase_factor: Scalar = 1.5
    max_step_size: Scalar = 1.0
    own_memory = True
    memory_per = "tree"
    comes_first = True
    comes_last = True
    measures_tree = True
    metrics = ("step_size",)

    def __post_init__(self) -> None:
        check_inner(self, self.inner)
        refuse_last(self, self.inner)
        if self.inner.needs_closure:
            raise HyperparameterError(
                f"`line_search`: `inner` must not evaluate the loss itself, got {self.inner!r}."
            )
        if self.inner.sign() == 1:
            raise HyperparameterError(
                f"`line_search`: the updates of `inner` must be a direction of descent, and "
                f"{self.inner!r} does not negate them: end it with `scale(-1.0)`."
            )
        if not isinstance(self.search, LineSearch):
            said = f"must be `backtracking()` or `strong_wolfe()`, got {in_message(self.search)}."
            checks.refuse(self, "search", self.search, said)
        checks.at_least(self, "increase_factor", self.increase_factor, 1.0)
        checks.positive(self, "max_step_size", self.max_step_size)

    def extra_names(self) -> frozenset[str]:
        return (self.inner.extra_names() or frozenset()) | {"value", "value_fn"}

    def params_needed_by(self) -> str:
        return "line_search"

    def init_memory(self, like: Tensor) -> LineSearchMemory:
        count, t = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=like.dtype)
        return LineSearchMemory(t, count, self._inner.init_memory(like))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [b.tx.evaluated(b.count) for b in buckets]
        rows = [rule.hyperparam_values() for rule in rules]
        inner = [b._replace(tx=b.tx.inner, memory=b.memory.inner) for b in buckets]
        memory = [b.memory for b in buckets]
        return Node(rules, rows, memory, members, [self._inner.open(inner, members)])

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
        child, old = node.children[0], node.memory[0]
        us, new = self._inner.run(gs, slots, ps, child, reduce)
        loss = node.members.loss_for("line_search")
        space = Space(gs, node.members, old.step_size.device)
        _, s = common_scalars(node.rules, node.rows)
        value = loss.value if loss.value is not None else loss.value_and_grad(loss.ps)[0]
        x, g, d = map(space.vector, (ps, gs, us))
        last = space.scalar(old.step_size)
        first = torch.minimum(last * s["increase_factor"], space.scalar(s["max_step_size"]))
        start = Point(torch.zeros_like(first), space.scalar(value), space.dot(g, d), g)
        found = search_along(self.search, start, first, x, d, space, loss)
        t = found.best.t
        lower = torch.where((found.t > 0) & (found.t < first), found.t, last)
        kept = torch.where(t == 0, lower, t).to(old.step_size.dtype)
        evals = old.func_evals + 1 + found.tries
        each = self._inner.memory_after(child)
        node.memory = [LineSearchMemory(kept, evals, own) for own in each]
        node.rows = [{"step_size": t}]
        return space.tensors(d * t), new

    def memory_after(self, node: Node) -> list[Memory]:
        return node.memory
