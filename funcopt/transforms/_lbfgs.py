"""L-BFGS: a quasi-Newton method, with a Hessian estimated from the last steps."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.loss import Loss
from .._core.select import select
from .._core.stage import Scalars
from .._core.vector import Space, Vector
from .._core.vector_rule import VectorRule
from .._numerics.scalars import number, widen
from ..typing import Scalar
from ._line_search import LineSearch, Point, Search, fixed_step


class LbfgsSlots(NamedTuple):
    """The slots of `lbfgs`, in at least float32."""

    prev_grad: Tensor  # like p: the gradient at the start of the last step
    prev_step: Tensor  # like p: the last step
    old_dirs: Tensor  # (history_size, *p.shape): changes of the gradient, the newest last
    old_stps: Tensor  # (history_size, *p.shape): the steps that made them


class LbfgsMemory(NamedTuple):
    """The shared scalars of `lbfgs`."""

    n_iter: Tensor  # (), int64: iterations so far, several in an update
    func_evals: Tensor  # (), int64: evaluations of the loss and its gradient so far
    pairs: Tensor  # (), int64: steps in the history
    H_diag: Tensor  # (): the initial inverse Hessian, times the identity


class History(NamedTuple):
    """The last steps `s` and changes of the gradient `y`, the newest last."""

    ys: tuple[Vector, ...]
    ss: tuple[Vector, ...]
    ro: tuple[Tensor, ...]  # 1 / (y . s); 0 where there is none
    pairs: Tensor
    scale: Tensor


class Run(NamedTuple):
    """The state of the iterations inside an update."""

    alive: Tensor  # (), bool
    x: Vector
    f: Tensor
    g: Vector
    d: Vector  # the direction of the search
    search: Search
    prev_grad: Vector  # the gradient at its start
    step: Vector  # the last one
    history: History
    n_iter: Tensor
    iters: Tensor  # in this update
    evals: Tensor  # in this update


class lbfgs(VectorRule):
    """Steps along ``-H g``, where `H` is the inverse Hessian, estimated from the last steps.

        s = x - x_before,  y = g - g_before        kept if y . s > 1e-10, the last `history_size`
        H_0 = (y . s) / (y . y) of the newest, 1 at first
        H <- (I - s y' / (y . s)) H (I - y s' / (y . s)) + s s' / (y . s)      from the oldest on
        x <- x - t H g

    One update makes up to `max_iter` such steps, as `torch.optim.LBFGS` does, with its results and
    defaults. The step length `t` is `lr` (at the very first step ``lr min(1, 1 / sum |g|)``), or
    found by `line_search`, which starts there. The loss is evaluated for each of them, so
    ``update`` needs it as the extra argument `value_fn`, and an `Optimizer` a closure. It must be
    the same function in all evaluations: no dropout. `value`, the loss at the parameters, saves
    one evaluation.

    The history is stored in at least float32: it consists of differences, which in fewer bits are
    mostly rounding errors. Inner products are over all parameters, parameter groups and ranks. The
    loop is bounded by `max_eval`, and ends early only where Python can read values: not under
    `torch.func.vmap` or `torch.compile`, for parameters that require derivatives, or with step
    counts on a device.

    Args:
        lr: The step length, or the first that a search tries; the same in all parameter groups.
        max_iter: Steps in one update. With 1 and no search, the loss is not evaluated.
        max_eval: Evaluations in one update, after which no further step is started; by default
            ``max_iter * 5 // 4``, but with `line_search` enough for a whole search: with fewer, the
            first one may return a step of 0, in every update.
        tolerance_grad: An update ends where no entry of the gradient is larger.
        tolerance_change: An update ends where no entry of a step is larger, or the loss changes by
            less.
        history_size: The number of steps in the history: two tensors per parameter for each.
        line_search: `strong_wolfe` or `backtracking`; without one, each step is taken as it is.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `line_search` is not a line
            search.

    References:
        Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", 1989;
        Nocedal & Wright, "Numerical Optimization", 2006, algorithm 7.4
    """

    lr: Scalar = 1.0
    max_iter: int = 20
    max_eval: int | None = None
    tolerance_grad: Scalar = 1e-7
    tolerance_change: Scalar = 1e-9
    history_size: int = 100
    line_search: LineSearch | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "tolerance_grad", "tolerance_change"):
            checks.non_negative(self, name, getattr(self, name))
        for name in ("max_iter", "history_size"):
            checks.whole_number(self, name, getattr(self, name), least=1)
        if self.max_eval is not None:
            checks.whole_number(self, "max_eval", self.max_eval, least=1)
        if not isinstance(self.line_search, (LineSearch, type(None))):
            searches = "must be `strong_wolfe()`, `backtracking()` or None, got "
            checks.refuse(
                self,
                "line_search",
                self.line_search,
                f"{searches}{checks.shown(self.line_search)}.",
            )

    @property
    def evaluates(self) -> bool:
        return self.line_search is not None or self.max_iter > 1

    def init_tensor(self, p: Tensor) -> LbfgsSlots:
        zeros = torch.zeros_like(p, dtype=widen(p.dtype))
        stack = torch.stack([zeros] * self.history_size)
        return LbfgsSlots(zeros, zeros.clone(), stack, stack.clone())

    def init_memory(self, like: Tensor) -> LbfgsMemory:
        count, number = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=like.dtype)
        return LbfgsMemory(count, count.clone(), count.clone(), number + 1)

    def update_vector(
        self,
        x: Vector,
        g: Vector,
        slots: LbfgsSlots,
        memory: LbfgsMemory,
        s: Scalars,
        space: Space,
        loss: Loss | None,
    ) -> tuple[Vector, LbfgsSlots, LbfgsMemory]:
        run = self._resumed(x, g, slots, memory, space, loss)
        optimal = space.max_abs(g) <= s.tolerance_grad
        ended = run._replace(alive=torch.zeros_like(run.alive))
        run = select(optimal, ended, lambda: self._aim(run, s, space))
        for _ in range(self._most_evals()):
            if number(run.alive) is False:
                break
            run = select(run.alive, lambda run=run: self._try(run, s, space, loss), run)
        columns: list[Any] = [
            space.tensors(run.prev_grad),
            space.tensors(run.step),
            space.stacks(run.history.ys),
            space.stacks(run.history.ss),
        ]
        evals = memory.func_evals + run.evals
        new = LbfgsMemory(run.n_iter, evals, run.history.pairs, run.history.scale)
        return run.x - x, LbfgsSlots(*columns), new

    def _resumed(
        self, x: Vector, g: Vector, slots: Any, memory: Any, space: Space, loss: Loss | None
    ) -> Run:
        """The run as the last update left it, at the present parameters."""
        value: Any = 0.0
        if loss is not None:
            value = loss.value if loss.value is not None else loss.value_and_grad(loss.ps)[0]
        f, zero = space.scalar(value), torch.zeros_like(memory.n_iter)
        ys, ss = space.vectors(slots.old_dirs), space.vectors(slots.old_stps)
        none = torch.zeros_like(f)
        ro = [none] * self.history_size
        for i in _used(ys, memory.pairs):
            curved = space.dot(ys[i], ss[i])
            ro[i] = torch.where(curved > 0, 1 / torch.where(curved > 0, curved, 1.0), none)
        history = History(ys, ss, tuple(ro), memory.pairs, space.scalar(memory.H_diag))
        start = Point(torch.zeros_like(f), f, torch.zeros_like(f), g)
        return Run(
            alive=torch.ones_like(f, dtype=torch.bool),
            x=x,
            f=f,
            g=g,
            d=g,
            search=self._search.begin(start, torch.zeros_like(f)),
            prev_grad=space.vector(slots.prev_grad),
            step=space.vector(slots.prev_step),
            history=history,
            n_iter=memory.n_iter,
            iters=zero,
            evals=zero + 1,
        )

    def _aim(self, run: Run, s: Scalars, space: Space) -> Run:
        """A new direction, and the start of a search along it."""
        history = self._remembered(run, space)
        d = -_times_inverse_hessian(run.g, history, space)
        first = run.n_iter == 0
        size = space.sum_abs(run.g)
        short = first & (size > 1)
        t = torch.where(short, 1 / torch.where(short, size, 1.0), 1.0) * s.lr
        slope = space.dot(run.g, d)
        start = Point(torch.zeros_like(t), run.f, slope, run.g)
        run = run._replace(
            alive=slope <= -s.tolerance_change,
            d=d,
            search=self._search.begin(start, t),
            prev_grad=run.g,
            step=d * t,
            history=history,
            n_iter=run.n_iter + 1,
            iters=run.iters + 1,
        )
        if self.line_search is not None:
            return run
        last = run.iters == self.max_iter  # the loss after it is not needed
        ended = run._replace(x=run.x.plus(d, t), alive=torch.zeros_like(run.alive))
        after: Run = select(run.alive & last, ended, run)
        return after

    def _try(self, run: Run, s: Scalars, space: Space, loss: Any) -> Run:
        """One evaluation of the loss; a step, if it ends the search."""
        t = run.search.t
        f, gs = loss.value_and_grad(space.tensors(run.x.plus(run.d, t)))
        g = space.vector(gs)
        new = Point(t, space.scalar(f), space.dot(g, run.d), g)
        limit = self._max_eval() - run.evals + run.search.tries
        search = self._search.advance(run.search, new, limit, space.max_abs(run.d))
        run = run._replace(search=search, evals=run.evals + 1)
        after: Run = select(search.done, lambda: self._step(run, s, space), run)
        return after

    def _step(self, run: Run, s: Scalars, space: Space) -> Run:
        """Takes the step that the search has found, and starts the next one unless it stops."""
        best = run.search.best
        step = run.d * best.t
        stop = (
            (run.iters == self.max_iter)
            | (run.evals >= self._max_eval())
            | (space.max_abs(best.g) <= s.tolerance_grad)
            | (space.max_abs(step) <= s.tolerance_change)
            | ((best.f - run.f).abs() < s.tolerance_change)
        )
        run = run._replace(x=run.x.plus(run.d, best.t), f=best.f, g=best.g, step=step, alive=~stop)
        after: Run = select(stop, run, lambda: self._aim(run, s, space))
        return after

    def _remembered(self, run: Run, space: Space) -> History:
        """The history with the last step, if the curvature along it is positive."""
        old, y = run.history, run.g - run.prev_grad
        ys, yy = space.dot(y, run.step), space.dot(y, y)
        kept = ys > 1e-10
        new = History(
            (*old.ys[1:], y),
            (*old.ss[1:], run.step),
            (*old.ro[1:], 1 / torch.where(kept, ys, 1.0)),
            (old.pairs + 1).clamp(max=self.history_size),
            ys / torch.where(kept, yy, 1.0),
        )
        after: History = select(kept, new, old)
        return after

    @property
    def _search(self) -> LineSearch:
        return fixed_step() if self.line_search is None else self.line_search

    def _max_eval(self) -> int:
        if self.max_eval is not None:
            return self.max_eval
        of_torch = self.max_iter * 5 // 4
        return of_torch if self.line_search is None else max(of_torch, self._search.most + 2)

    def _most_evals(self) -> int:
        """Evaluations in one update after that of the start."""
        if self.line_search is None:
            return min(self.max_iter - 1, max(self._max_eval() - 1, 1))
        return self._max_eval()


def _times_inverse_hessian(q: Vector, history: History, space: Space) -> Vector:
    """``H q``, by the two loops of L-BFGS. Where there is no step, all is zero."""
    ys, ss, ro, pairs, scale = history
    used, al = _used(ys, pairs), {}
    for i in reversed(used):
        al[i] = space.dot(ss[i], q) * ro[i]
        q = q.plus(ys[i], -al[i])
    r = q * scale
    for i in used:
        be = space.dot(ys[i], r) * ro[i]
        r = r.plus(ss[i], al[i] - be)
    return r


def _used(ys: tuple[Vector, ...], pairs: Tensor) -> range:
    """The indices of a history at which there is a step, or may be one."""
    every, known = range(len(ys)), number(pairs)
    return every if isinstance(known, Tensor) else every[len(ys) - known :]
