"""Newton-CG: Newton's method, with the direction from conjugate gradients."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core import checks
from .._core.compact import in_message
from .._core.loss import Loss
from .._core.select import select
from .._core.stage import Scalars
from .._core.vector import Space, Vector
from .._core.vector_rule import VectorRule
from .._numerics.scalars import number, sqrt
from ..errors import HyperparameterError
from ..typing import Scalar
from ._line_search import LineSearch, Point, backtracking, search_along


class NewtonMemory(NamedTuple):
    """The shared scalars of `newton_cg`."""

    func_evals: Tensor  # (), int64: evaluations of the loss and its gradient so far
    products: Tensor  # (), int64: products of the Hessian with a vector so far


class Solve(NamedTuple):
    """The state of the conjugate gradients."""

    alive: Tensor  # (), bool
    z: Vector  # the solution so far
    r: Vector  # H z + g
    d: Vector  # the next direction
    rr: Tensor  # (): r . r
    products: Tensor  # (), int64


class newton_cg(VectorRule):
    """Steps along the solution `z` of ``H z = -g``, with `H` the Hessian of the loss.

    Conjugate gradients find `z` from products of `H` with vectors, each about the cost of two
    gradients; they end where

        |H z + g| <= min(tolerance, sqrt(|g|)) |g|,   after `max_cg_iter` products,

    or at a direction of negative curvature: then with the solution so far, at the very first with
    ``-g``. So `z` is always a descent direction. On a quadratic loss, one update with
    ``tolerance=0.0`` and as many products as there are parameters reaches the minimum. Meant for
    small problems.

    ``update`` needs the loss as the extra argument `value_fn`, and an `Optimizer` a closure that
    keeps the graph of the gradients, ``loss.backward(create_graph=True)``. It must be the same
    function in all evaluations. `value`, the loss at the parameters, saves one of them.

    Args:
        lr: The step length, or the first that a search tries; the same in all parameter groups.
        tolerance: Tolerance of the solution, relative to the norm of the gradient.
        max_cg_iter: The largest number of products in one update.
        line_search: `backtracking` or `strong_wolfe`; without one, ``lr z`` is taken as it is.

    Raises:
        HyperparameterError: If a hyperparameter is out of range, or `line_search` is not a line
            search.

    References:
        Nocedal & Wright, "Numerical Optimization", 2006, algorithm 7.1
    """

    lr: Scalar = 1.0
    tolerance: Scalar = 0.5
    max_cg_iter: int = 20
    line_search: LineSearch | None = backtracking()

    def __post_init__(self) -> None:
        checks.non_negative(self, "lr", self.lr)
        checks.non_negative(self, "tolerance", self.tolerance)
        checks.whole_number(self, "max_cg_iter", self.max_cg_iter, least=1)
        if not isinstance(self.line_search, (LineSearch, type(None))):
            raise HyperparameterError(
                "`newton_cg`: `line_search` must be `backtracking()`, `strong_wolfe()` or None, "
                f"got {in_message(self.line_search)}."
            )

    def init_memory(self, like: Tensor) -> NewtonMemory:
        zero = torch.zeros((), dtype=torch.int64)
        return NewtonMemory(zero, zero.clone())

    def update_vector(
        self,
        x: Vector,
        g: Vector,
        slots: Any,
        memory: NewtonMemory,
        s: Scalars,
        space: Space,
        loss: Loss,
    ) -> tuple[Vector, Any, NewtonMemory]:
        d, products = self._direction(g, s, space, loss)
        evals, t = memory.func_evals + 1, space.scalar(s.lr)
        if self.line_search is not None:
            value = loss.value if loss.value is not None else loss.value_and_grad(loss.ps)[0]
            start = Point(torch.zeros_like(t), space.scalar(value), space.dot(g, d), g)
            search = search_along(self.line_search, start, t, x, d, space, loss)
            evals, t = evals + search.tries, search.best.t
        return d * t, slots, NewtonMemory(evals, memory.products + products)

    def _direction(self, g: Vector, s: Scalars, space: Space, loss: Loss) -> tuple[Vector, Tensor]:
        """The solution of ``H z = -g``, to the tolerance, and the number of products for it."""
        rr = space.dot(g, g)
        norm = sqrt(rr)
        enough = torch.minimum(space.scalar(s.tolerance), sqrt(norm)) * norm
        count = torch.zeros((), dtype=torch.int64, device=rr.device)
        times = loss.hessian()
        solve = Solve(rr > 0, g * 0.0, g, -g, rr, count)

        def iterate(old: Solve) -> Solve:
            along = space.vector(times(space.tensors(old.d)))
            curvature = space.dot(old.d, along)
            upwards, first = curvature > 0, old.products == 0
            length = old.rr / torch.where(upwards, curvature, 1.0)
            r = old.r.plus(along, length)
            rr = space.dot(r, r)
            d = old.d * (rr / torch.where(old.rr > 0, old.rr, 1.0)) - r
            z = select(upwards, old.z.plus(old.d, length), select(first, old.d, old.z))
            return Solve(upwards & (sqrt(rr) > enough), z, r, d, rr, old.products + 1)

        for _ in range(self.max_cg_iter):
            if number(solve.alive) is False:
                break
            solve = select(solve.alive, partial(iterate, solve), solve)
        return solve.z, solve.products
