"""How far to go along a direction: line searches, one evaluation of the loss at a time."""

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
    """A place along the direction, and what the loss is there."""

    t: Tensor  # (): how far
    f: Tensor  # (): the loss
    slope: Tensor  # (): its derivative by t
    g: Vector  # its gradient


class Search(NamedTuple):
    """A line search under way."""

    start: Point
    t: Tensor  # (): how far to go for the next evaluation
    done: Tensor  # (), bool
    best: Point  # where it ends, once it is done
    tries: Tensor  # (), int64: evaluations so far
    own: Any  # what the kind of search remembers besides


class LineSearch(Record):
    """Finds a step length: told the loss at one length, it names the next, or is done.

    A search has no loop and no evaluations of its own, so any number of them can be in different
    phases under `torch.func.vmap`.
    """

    @property
    def most(self) -> int:
        """How many tries there are after the first at most."""
        return 0

    @abstractmethod
    def begin(self, start: Point, t: Tensor) -> Search:
        """A search from `start` whose first try is `t`."""

    @abstractmethod
    def advance(self, search: Search, new: Point, limit: Any, size: Tensor) -> Search:
        """The search after the evaluation at `new`.

        Args:
            search: The search before.
            new: What was found at ``search.t``.
            limit: With so many tries before this one, it has to end.
            size: The greatest entry of the direction.
        """


def search_along(
    line_search: LineSearch, start: Point, t: Tensor, x: Vector, d: Vector, space: Space, loss: Loss
) -> Search:
    """A whole search from `x` along `d`, first by `t`; none where that does not go downhill."""
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
        c1: The share of the decrease that the slope at the start promises; in (0, 1).
        decay: What a step is multiplied by; in (0, 1).
        max_steps: How often it is shortened at most.

    Raises:
        HyperparameterError: If a number is out of range.

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
    """What `strong_wolfe` remembers: two points between which there is a good one."""

    a: Point  # while none is known, the point before
    b: Point
    zooming: Tensor  # (), bool: whether it is known
    close: Tensor  # (), bool: the last try was close to an end, so little was learnt


class strong_wolfe(LineSearch):
    """Finds a step that decreases the loss enough, and its slope (strong Wolfe conditions).

        f(t) <= f(0) + c1 t f'(0)   and   abs(f'(t)) <= c2 abs(f'(0))

    First steps grow until such a point must lie between two of them, then the bracket shrinks, each
    time to the minimum of the cubic through its ends. That is the search of
    `torch.optim.LBFGS`, with its numbers; only a loss that is not finite is treated as a high one.

    Args:
        c1: The share of the decrease that the slope at the start promises; in (0, 1).
        c2: The share of the slope that may be left; in (0, 1), above `c1`.
        tolerance_change: A bracket in which no parameter changes by more is not searched further.
        max_steps: How many tries there are after the first at most; then the best is taken.

    Raises:
        HyperparameterError: If a number is out of range.

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
        """While no bracket is known: it is between the last two points, or further out."""
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
        """A bracket is known: the new point takes the place of one of its ends."""
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
    """What a loss that is not finite counts as: high, and flat, without a derivative."""
    none = Vector(tuple(map(torch.zeros_like, new.g.blocks)))
    return torch.full_like(new.f, torch.inf), torch.zeros_like(new.slope), none


def _cubic(p: Point, q: Point, least: Tensor, most: Tensor) -> Tensor:
    """The minimum, within bounds, of the cubic with these values and slopes; else their middle.

    Where there is no such minimum, all of it is computed of other numbers: a derivative must not
    meet what is infinite, not even times zero.
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
