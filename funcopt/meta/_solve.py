"""Solving ``A x = b`` for trees, where A is only known by what it does to a tree."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from .. import tree
from .._core import checks
from .._core.kinds import check_function, check_tree
from .._core.record import Record
from .._numerics.scalars import number
from ..typing import Scalar, Tree, TypeAliasType

MatVec = TypeAliasType("MatVec", Callable[[Any], Any])
"""What multiplies a tree by a matrix."""


class solve_cg(Record):
    """Conjugate gradients, for a symmetric positive definite A: ``x = solve_cg()(matvec, b)``.

    Of ``(A + ridge I) x = b``, until ``|b - A x| <= tol |b|``, or for `maxiter` iterations.
    It stops early only where Python may read the residual; under `torch.func.vmap` and compilation,
    runs that have converged wait for the others.

    Args:
        maxiter: At most so many products with A; n of them are enough for n unknowns.
        tol: Relative size of the residual at which to stop.
        ridge: Added to the diagonal of A; not negative.

    Raises:
        HyperparameterError: If a value is out of range.

    References:
        Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """

    maxiter: int = 100
    tol: float = 1e-10
    ridge: Scalar = 0.0

    def __post_init__(self) -> None:
        checks.whole_number(self, "maxiter", self.maxiter, least=1)
        checks.fixed_number(self, "tol", self.tol)
        checks.fixed_number(self, "ridge", self.ridge)

    def __call__(self, matvec: MatVec, b: Tree) -> Tree:
        _check(self, matvec, b)
        x, r = tree.zeros_like(b), b
        p, rr = r, tree.dot(r, r)
        goal = self.tol**2 * rr
        for _ in range(self.maxiter):
            going = rr > goal
            if number(going) is False:
                break
            ap = _plus(matvec(p), p, self.ridge)
            curvature = tree.dot(p, ap)
            length = torch.where(going, rr / torch.where(going, curvature, 1.0), 0.0)
            x, r = _plus(x, p, length), _plus(r, ap, -length)
            new = tree.dot(r, r)
            p = _plus(r, p, torch.where(going, new / torch.where(going, rr, 1.0), 0.0))
            rr = new
        return x


class solve_normal_cg(Record):
    """Conjugate gradients on ``A^T A x = A^T b``, for any A of full rank.

    The products with the transpose come from the derivative of `matvec`. The error grows with the
    square of the condition number of A; where A is symmetric and positive, `solve_cg` is better.

    Args:
        maxiter: At most so many steps, each a product with A and with its transpose.
        tol: Relative size of the residual of the normal equations at which to stop.
        ridge: Added to the diagonal of ``A^T A``; not negative.

    Raises:
        HyperparameterError: If a value is out of range.
    """

    maxiter: int = 100
    tol: float = 1e-10
    ridge: Scalar = 0.0

    def __post_init__(self) -> None:
        checks.whole_number(self, "maxiter", self.maxiter, least=1)
        checks.fixed_number(self, "tol", self.tol)
        checks.fixed_number(self, "ridge", self.ridge)

    def __call__(self, matvec: MatVec, b: Tree) -> Tree:
        _check(self, matvec, b)
        transposed = vjp(matvec, b)[1]

        def normal(x: Any) -> Any:
            return transposed(matvec(x))[0]

        rhs: Tree = transposed(b)[0]
        return solve_cg(self.maxiter, self.tol, self.ridge)(normal, rhs)


class solve_neumann(Record):
    """The first terms of the Neumann series, for an A whose distance from ``I / lr`` is small.

        x = lr (b + M b + M^2 b + ... + M^(maxiter - 1) b),    M = I - lr A

    It converges where all eigenvalues of `M` are below 1 in absolute value, slowly where they are
    near; with few steps it is a cheap, biased answer, that of differentiating through so many steps
    of gradient descent from the solution.

    Args:
        maxiter: How many terms.
        lr: The step size; positive, and below 2 over the largest eigenvalue of A.

    Raises:
        HyperparameterError: If a value is out of range.

    References:
        Lorraine, Vicol and Duvenaud, "Optimizing Millions of Hyperparameters by Implicit
        Differentiation", AISTATS 2020. https://arxiv.org/abs/1911.02590
    """

    maxiter: int = 20
    lr: Scalar = 1.0

    def __post_init__(self) -> None:
        checks.whole_number(self, "maxiter", self.maxiter, least=1)
        checks.fixed_number(self, "lr", self.lr)
        checks.positive(self, "lr", self.lr)

    def __call__(self, matvec: MatVec, b: Tree) -> Tree:
        _check(self, matvec, b)
        term = total = b
        lr: Any = self.lr  # no schedule
        for _ in range(self.maxiter - 1):
            term = _plus(term, matvec(term), -lr)
            total = _plus(total, term, 1.0)
        found: Tree = tree.map(lambda x: lr * x, total)
        return found


def _check(solver: Record, matvec: Any, b: Any) -> None:
    who = type(solver).__name__
    check_function(who, "matvec", matvec, "matvec(x)", 1)
    check_tree(who, "b", b)


def _plus(a: Tree, b: Tree, scale: Any) -> Tree:
    """``a + scale b``, in the dtypes of `a`."""

    def plus(x: Tensor, y: Tensor) -> Tensor:
        moved: Tensor = x + scale * y
        return moved.to(x.dtype)

    return tree.map(plus, a, b)
