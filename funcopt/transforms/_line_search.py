"""Line searches: step lengths along a direction, one evaluation of the loss at a time."""

from abc import abstractmethod
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.loss import Loss
from .._core.record import Record
from .._core.select import select
from .._core.vector import Space, Vector
from .._numerics.scalars import number, sqrt


class Point(NamedTuple):
    """A point along the direction, and the loss there."""

    t: Tensor  # (): the step length
    f: Tensor  # (): the loss
    slope: Tensor  # (): its derivative by t
    g: Vector  # its gradient


class Search(NamedTuple):
    """The state of a line search."""

    start: Point
    t: Tensor  # (): the step length of the next evaluation
    done: Tensor  # (), bool
    best: Point  # the result, once it is done
    tries: Tensor  # (), int64: evaluations so far
    own: Any  # the state of the kind of search


class LineSearch(Record):
    """Finds a step length: given the loss at one length, it returns the next, or is done.

    A search has no loop and no evaluations of its own, so any number of them can be in different
    phases under `torch.func.vmap`.
    """

    @property
    def most(self) -> int:
        """The largest number of evaluations after the first."""
        return 0

    @abstractmethod
    def begin(self, start: Point, t: Tensor) -> Search:
        """A search from `start` whose first try is `t`."""

    @abstractmethod
    def advance(self, search: Search, new: Point, limit: Any, size: Tensor) -> Search:
        """The search after the evaluation at `new`.

        Args:
            search: The search before.
            new: The point at ``search.t``.
            limit: The search has to end if there were so many evaluations before this one.
            size: The largest absolute value of an entry of the direction.
        """


def search_along(
    line_search: LineSearch, start: Point, t: Tensor, x: Vector, d: Vector, space: Space, loss: Loss
) -> Search:
    """A whole search from `x` along `d`, first by `t`; none where `d` is no descent direction."""
    size = space.max_abs(d)

    def attempt(old: Search) -> Search:
        f, gs = loss.value_and_grad(space.tensors(x.plus(d, old.t)))
        g = space.vector(gs)
        new = Point(old.t, space.scalar(f), space.dot(g, d), g)
        return line_search.advance(old, new, line_search.most, size)

    search = line_search.begin(start, t)._replace(done=start.slope >= 0)
    for _ in range(line_search.most + 1):
        if number(search.done) is True:
            break
        search = select(search.done, search, partial(attempt, search))
    return search


class fixed_step(LineSearch):
    """No search: the first step is taken as it is."""

    def begin(self, start: Point, t: Tensor) -> Search:
        return _begin(start, t, ())

    def advance(self, search: Search, new: Point, limit: Any, size: Tensor) -> Search:
        return search._replace(done=torch.ones_like(search.done), best=new)


class backtracking(LineSearch):
    """Shortens the step until the loss decreases enough (Armijo).

        f(t) <= f(0) + c1 t f'(0),   else t <- decay t

    A loss that is not finite does not decrease. If no try is good enough, the step is 0.

    Args:
        c1: The required fraction of the decrease that the slope at the start predicts; in (0, 1).
        decay: The factor by which a step is shortened; in (0, 1).
        max_steps: The largest number of times that a step is shortened.

    Raises:
        HyperparameterError: If an argument is out of range.

    References:
        Nocedal & Wright, "Numerical Optimization", 2006, algorithm 3.1
    """

    c1: float = 1e-4
    decay: float = 0.5
    max_steps: int = 25

    def __post_init__(self) -> None:
        checks.in_open_unit_interval(self, "c1", self.c1)
        checks.in_open_unit_interval(self, "decay", self.decay)
        checks.whole_number(self, "max_steps", self.max_steps, least=0)

    @property
    def most(self) -> int:
        return self.max_steps

    def begin(self, start: Point, t: Tensor) -> Search:
        return _begin(start, t, ())

    def advance(self, search: Search, new: Point, limit: Any, size: Tensor) -> Search:
        start = search.start
        good = new.f <= start.f + self.c1 * new.t * start.slope
        full = (search.tries >= limit) | (search.tries >= self.max_steps)
        return search._replace(
            t=search.t * self.decay,
            done=good | full,
            best=select(good, new, start),
            tries=search.tries + 1,
        )


class Bracket(NamedTuple):
    """The state of `strong_wolfe`: two points between which there is an acceptable one."""

    a: Point  # while no bracket is known, the previous point
    b: Point
    zooming: Tensor  # (), bool: whether a bracket is known
    close: Tensor  # (), bool: the last try was close to an end of it


class strong_wolfe(LineSearch):
    """Finds a step that meets the strong Wolfe conditions: sufficient decrease, and curvature.

        f(t) <= f(0) + c1 t f'(0)   and   abs(f'(t)) <= c2 abs(f'(0))

    First steps grow until such a point must lie between two of them, then the bracket shrinks, each
    time to the minimum of the cubic through its ends. That is the search of
    `torch.optim.LBFGS`, with its results, but a loss that is not finite is treated as a high one.

    Args:
        c1: The required fraction of the decrease that the slope at the start predicts; in (0, 1).
        c2: The fraction of the slope that may remain; in (0, 1), above `c1`.
        tolerance_change: A bracket in which no parameter changes by more is not searched further.
        max_steps: The largest number of evaluations after the first; then the best is taken.

    Raises:
        HyperparameterError: If an argument is out of range.

    References:
        Nocedal & Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6; Schmidt, minFunc,
        2005, https://www.cs.ubc.ca/~schmidtm/Software/minFunc.html
    """

    c1: float = 1e-4
    c2: float = 0.9
    tolerance_change: float = 1e-9
    max_steps: int = 25

    def __post_init__(self) -> None:
        checks.in_open_unit_interval(self, "c1", self.c1)
        checks.in_open_unit_interval(self, "c2", self.c2)
        checks.non_negative(self, "tolerance_change", self.tolerance_change)
        checks.whole_number(self, "max_steps", self.max_steps, least=0)

    @property
    def most(self) -> int:
        return self.max_steps

    def begin(self, start: Point, t: Tensor) -> Search:
        no = torch.zeros_like(t, dtype=torch.bool)
        return _begin(start, t, Bracket(start, start, no, no))

    def advance(self, search: Search, new: Point, limit: Any, size: Tensor) -> Search:
        start = search.start
        finite = new.f.isfinite() & new.slope.isfinite()
        new = select(finite, new, Point(new.t, *_nothing_but_high(new)))
        low_enough = new.f <= start.f + self.c1 * new.t * start.slope
        flat = low_enough & (new.slope.abs() <= -self.c2 * start.slope)
        full = (search.tries >= limit) | (search.tries >= self.max_steps)
        search = select(
            search.own.zooming,
            lambda: self._shrink(search, new, low_enough, flat),
            lambda: self._grow(search, new, low_enough, flat, full),
        )
        a, b = search.own.a, search.own.b
        small = (b.t - a.t).abs() * size < self.tolerance_change
        stop = search.done | (search.own.zooming & (full | small))
        search = search._replace(done=stop, tries=search.tries + 1)
        aim = search.own.zooming & ~stop
        aimed: Search = select(aim, lambda: self._aim(search), search)
        return aimed

    def _grow(self, search: Search, new: Point, low: Tensor, flat: Tensor, full: Tensor) -> Search:
        """While no bracket is known: it is between the last two points, or beyond them."""
        before = search.own.a
        high = ~low | ((search.tries > 1) & (new.f >= before.f))
        flat = flat & ~high & ~full
        found = full | high | (~flat & (new.slope >= 0))
        a = select(full, search.start, before)
        end = select(flat, new, select(new.f < a.f, new, a))
        further = _cubic(before, new, new.t + 0.01 * (new.t - before.t), new.t * 10)
        own = search.own._replace(a=select(found, a, new), b=new, zooming=found)
        return search._replace(t=further, done=flat | full, best=end, own=own)

    def _shrink(self, search: Search, new: Point, low_enough: Tensor, flat: Tensor) -> Search:
        """A bracket is known: the new point replaces one of its ends."""
        a, b = search.own.a, search.own.b
        b_is_low = b.f < a.f
        low, high = select(b_is_low, b, a), select(b_is_low, a, b)
        worse = ~low_enough | (new.f >= low.f)
        flat = flat & ~worse
        beyond = ~flat & (new.slope * (high.t - low.t) >= 0)
        high = select(worse, new, select(beyond, low, high))
        low = select(worse, low, new)
        a, b = select(b_is_low, high, low), select(b_is_low, low, high)
        best = select(b.f < a.f, b, a)
        return search._replace(done=flat, best=best, own=search.own._replace(a=a, b=b))

    def _aim(self, search: Search) -> Search:
        """The next try inside the bracket: not twice in a row close to an end of it."""
        a, b = search.own.a, search.own.b
        least, most = torch.minimum(a.t, b.t), torch.maximum(a.t, b.t)
        t = _cubic(a, b, least, most)
        margin = 0.1 * (most - least)
        close = torch.minimum(most - t, t - least) < margin
        move = close & (search.own.close | (t >= most) | (t <= least))
        inside = torch.where((t - most).abs() < (t - least).abs(), most - margin, least + margin)
        t = torch.where(move, inside, t)
        return search._replace(t=t, own=search.own._replace(close=close & ~move))


def _begin(start: Point, t: Tensor, own: Any) -> Search:
    done = torch.zeros_like(t, dtype=torch.bool)
    return Search(start, t, done, start, torch.zeros_like(t, dtype=torch.int64), own)


def _nothing_but_high(new: Point) -> tuple[Tensor, Tensor, Vector]:
    """What a loss that is not finite is replaced by: infinity, with slope and gradient 0."""
    none = Vector(tuple(map(torch.zeros_like, new.g.blocks)))
    return torch.full_like(new.f, torch.inf), torch.zeros_like(new.slope), none


def _cubic(p: Point, q: Point, least: Tensor, most: Tensor) -> Tensor:
    """The minimum, within bounds, of the cubic with these values and slopes; else their middle.

    Where there is no such minimum, all of it is computed from other values: a derivative must not
    meet infinity, not even times zero.
    """
    known = (p.t != q.t) & torch.stack([p.f, q.f, p.slope, q.slope]).isfinite().all()
    ordered = p.t <= q.t
    left, right = select(ordered, p, q), select(ordered, q, p)
    rise = torch.where(known, (p.f - q.f) / torch.where(known, p.t - q.t, 1.0), 0.0)
    d1 = torch.where(known, p.slope + q.slope, 0.0) - 3 * rise
    square = d1 * d1 - torch.where(known, p.slope * q.slope, 0.0)
    real = known & (square >= 0) & square.isfinite()
    d2 = sqrt(torch.where(real, square, 0.0))
    top, bottom = right.slope + d2 - d1, right.slope - left.slope + 2 * d2
    flat = ~real | (bottom == 0)
    way = (right.t - left.t) * torch.where(flat, 0.0, top / torch.where(flat, 1.0, bottom))
    beyond = torch.where(real & flat, -top.sign() * torch.inf, 0.0)  # towards one of the bounds
    t = torch.where(flat, beyond, right.t - way)
    inside = torch.minimum(torch.maximum(t, least), most)
    return torch.where(real & t.isnan().logical_not(), inside, (least + most) / 2)
