"""Implicit differentiation: derivatives of a solution, from the equation that it solves."""

from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.func import vjp

from .. import tree
from .._core.dependence import independent, is_followed
from .._core.kinds import check_function, described
from .._core.loss import is_number
from .._numerics.scalars import alive
from ..errors import ArgumentError, HyperparameterError, StructureError
from ..typing import Tree, TypeAliasType
from ._checkpoint import is_smooth, pusher, refuse_twice_forwards
from ._closure_check import captured, refuse_traced
from ._solve import MatVec, solve_normal_cg

Arguments = ParamSpec("Arguments")
Solve = TypeAliasType("Solve", Callable[[MatVec, Any], Any])
"""``solve(matvec, b)``, of trees."""


def custom_root(
    optimality: Callable[..., Any],
    *,
    solve: Solve | None = None,
    has_aux: bool = False,
) -> Callable[[Callable[Arguments, Tree]], Callable[Arguments, Tree]]:
    """Differentiates a solver by the implicit function theorem, however it finds the root.

        @custom_root(torch.func.grad(inner_loss))
        def solver(start, theta):  # the minimum of inner_loss(params, theta) in params
            ...
            return params

        slope = torch.func.grad(lambda theta: outer_loss(solver(start, theta)))(theta)

    Where ``optimality(x, *args) = F(x, *args)`` is zero, the implicit function theorem gives
    ``dx/dargs = -(dF/dx)^-1 dF/dargs``: one linear system for each backward pass, whatever the
    number of steps of the solver, whose history is not kept. It holds at a root: the
    error of the derivative grows with the distance from it at which the solver stops.

    The result is ``solver(start, *args)``, with derivatives of every order by `args`, backwards and
    once forwards (`torch.func.grad`, `jvp`, `hessian`); by `start`, where the search begins, the
    derivative is zero.

    Args:
        optimality: ``optimality(x, *args)``, a tree like x: the gradient of an inner loss, or
            ``step(x, *args) - x`` of a fixed point. What is differentiated by has to come in
            through `args`.
        solve: How to solve the linear system: `solve_normal_cg()`, the default; where `optimality`
            is the gradient of a loss at its minimum, `solve_cg()`; `solve_neumann()`; or any
            ``solve(matvec, b)``.
        has_aux: Whether the solver returns ``(x, aux)``: what it found, and a tree of auxiliary
            outputs, such as the number of its steps, of which no derivative is taken.

    Raises:
        HyperparameterError: If `optimality`, `solve` or the solver cannot be called so.
        StructureError: In a call, if `optimality` or `solve` returns a tree of another structure,
            such as the value of a loss for its gradient.
        DerivativeError: In a derivative, if `optimality` depends on none of its arguments.

    References:
        Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022.
        https://arxiv.org/abs/2105.15183
    """
    check_function("custom_root", "optimality", optimality, "optimality(x, *args)")
    if isinstance(solve, type):
        raise HyperparameterError(
            f"`custom_root`: `solve` is the class `{solve.__name__}`: call it, as in "
            f"`solve={solve.__name__}()`."
        )
    if solve is not None:
        check_function("custom_root", "solve", solve, "solve(matvec, b)", 2)
    linear = solve_normal_cg() if solve is None else solve

    def decorate(*solvers: Callable[..., Any]) -> Callable[..., Any]:
        if len(solvers) != 1 or not callable(solvers[0]) or isinstance(solvers[0], type):
            got = f"{len(solvers)} arguments." if len(solvers) != 1 else described(solvers[0])
            raise HyperparameterError(
                "`custom_root`: `custom_root(optimality)` is a decorator, which takes the solver, a"
                f" function `solver(start, *args)`, got {got} Write `@custom_root(optimality)` "
                "above it, not `@custom_root`."
            )
        (solver,) = solvers

        def root(*given: Any) -> Any:
            if not given:
                raise ArgumentError(
                    "`custom_root`: the solver is called as `solver(start, *args)`: its first "
                    "argument is where the search begins; one in closed form is given `None`."
                )
            start, *args = given
            check_function("custom_root", "solver", solver, "solver(start, *args)", len(given))
            call = "optimality(x, *args)"
            check_function("custom_root", "optimality", optimality, call, len(given))
            refuse_traced("custom_root", optimality)
            leaves, spec = tree.flatten((start, *args))
            begins = len(tree.flatten(start)[0])
            places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
            out_spec: list[Any] = []

            def rebuilt(tensors: tuple[Tensor, ...]) -> Any:
                given = list(leaves)
                for i, x in zip(places, tensors, strict=True):
                    given[i] = x
                return spec.unflatten(given)

            def find(*tensors: Tensor) -> tuple[Tensor, ...]:
                made = solver(*rebuilt(tensors))
                if has_aux and not (isinstance(made, tuple) and len(made) == 2):
                    raise StructureError(
                        "`custom_root`: with `has_aux`, the solver must return `(x, aux)`, got "
                        f"{type(made).__name__}."
                    )
                x, aux = made if has_aux else (made, None)
                found, outline = tree.flatten(x)
                if not all(isinstance(y, Tensor) for y in found):
                    raise StructureError(
                        "`custom_root`: the solver must return a tree of tensors, got "
                        f"{type(x).__name__} with others in it. Auxiliary outputs need "
                        "`has_aux=True`, and `(x, aux)`."
                    )
                besides, rest = tree.flatten(aux)
                at = [i for i, y in enumerate(besides) if isinstance(y, Tensor)]
                out_spec[:] = [outline, len(found), besides, rest, at]
                return tuple(x.clone() for x in (*found, *(besides[i] for i in at)))

            def residual(solution: tuple[Tensor, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
                x = out_spec[0].unflatten(list(solution))
                found = optimality(x, *rebuilt(tensors)[1:])
                try:
                    flat = out_spec[0].flatten_up_to(found)
                    _check_residual(out_spec[0], solution, flat)
                    return tuple(flat)
                except StructureError as error:
                    if is_number(found) and not all(y.dim() == 0 for y in solution):
                        raise _is_loss() from None
                    raise StructureError(
                        "`custom_root`: what `optimality` returns must have the structure of what "
                        f"the solver does, its first argument. {error} A solver with "
                        "auxiliary outputs needs `has_aux=True`."
                    ) from None

            flat = [leaves[i] for i in places]
            first = sum(i < begins for i in places)  # of what is found through `args`
            count = lambda: out_spec[1]  # noqa: E731  # known once it is found
            found = _Root.apply(find, residual, linear, first, count, *flat)  # type: ignore[no-untyped-call]
            outline, size, besides, rest, at = out_spec
            x = outline.unflatten(list(found[:size]))
            if not has_aux:
                return x
            for i, y in zip(at, found[size:], strict=True):
                besides[i] = y
            return x, rest.unflatten(besides)

        return root

    return decorate


class _Root(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        find: Any, residual: Any, solve: Any, first: int, count: Any, *tensors: Tensor
    ) -> Any:
        tensors = tuple(x.detach() for x in tensors)
        out = tuple(x.detach() for x in find(*tensors))
        with torch.enable_grad():
            if any(x.requires_grad for x in residual(out[: count()], *tensors)):
                raise captured("custom_root")
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.residual, ctx.solve, ctx.first, count, *tensors = inputs
        ctx.count = count()
        ctx.save_for_backward(*output[: ctx.count], *tensors)
        ctx.save_for_forward(*output[: ctx.count], *tensors)
        ctx.mark_non_differentiable(*output[ctx.count :])
        ctx.besides = len(output) - ctx.count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        smooth, residual, at = _of_solution(ctx)
        pull = vjp(_followed(residual), *at)[1]
        right = tuple(map(alive, grads[: ctx.count]))
        adjoint = _solved(ctx.solve(lambda v: pull(v)[0], right), right)
        slopes = pull(adjoint)[1:]
        found: list[Tensor | None] = [None] * (len(ctx.saved_tensors) - ctx.count)
        for i, slope in zip(smooth, slopes, strict=True):
            found[i] = -slope
        return (None, None, None, None, None, *found)

    @staticmethod
    def jvp(ctx: Any, *along: Any) -> Any:
        refuse_twice_forwards("custom_root")
        smooth, residual, (solution, *given) = _of_solution(ctx)
        ways = [along[5 + i] for i in smooth]
        ways = [
            torch.zeros_like(x) if way is None else way for x, way in zip(given, ways, strict=True)
        ]
        rest = [torch.zeros_like(x) for x in given]
        none = tuple(map(torch.zeros_like, solution))
        pushed = pusher(residual, solution, *given)
        moved = pushed(none, *ways)
        found = _solved(ctx.solve(lambda v: pushed(v, *rest), moved), moved)
        return (*(-x for x in found), *[None] * ctx.besides)


def _is_loss() -> StructureError:
    return StructureError(
        "`custom_root`: `optimality` returns one number, as a loss does, where its derivative is "
        "wanted, a tree like x: pass `torch.func.grad(inner_loss)`."
    )


def _check_residual(spec: Any, solution: Any, found: list[Any]) -> None:
    """What `optimality` returns has the shapes of the solution."""
    for x, y in zip(solution, found, strict=True):
        if not isinstance(y, Tensor):
            raise StructureError(f"Expected a tensor, got {described(y)}")
        if x.shape != y.shape:
            raise StructureError(f"A leaf has the shape {tuple(y.shape)}, not {tuple(x.shape)}.")


def _followed(residual: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """It, which must depend on something."""

    def checked(*at: Any) -> tuple[Tensor, ...]:
        found = residual(*at)
        leaves = tree.leaves(at)
        if found and not any(is_followed(y, leaves) for y in found):
            raise independent("custom_root", "what `optimality` returns", "its arguments")
        return found

    return checked


def _solved(found: Any, b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What `solve` returns, like its right-hand side."""
    leaves = list(found) if isinstance(found, (tuple, list)) else [found]
    if list(map(_shape, leaves)) != list(map(_shape, b)):
        raise StructureError(
            "`custom_root`: `solve(matvec, b)` must return a tree like `b`, tensors of the shapes "
            f"{list(map(_shape, b))} in a tuple, got {list(map(_shape, leaves))}."
        )
    return tuple(leaves)


def _shape(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__


def _of_solution(ctx: Any) -> tuple[list[int], Callable[..., tuple[Tensor, ...]], list[Any]]:
    """What is differentiated by, the residual as a function of it and the solution, and both."""
    saved = list(map(alive, ctx.saved_tensors))
    solution, tensors = saved[: ctx.count], saved[ctx.count :]
    smooth = [i for i in range(ctx.first, len(tensors)) if is_smooth(tensors[i])]

    def residual(solution: Any, *chosen: Tensor) -> tuple[Tensor, ...]:
        given = list(tensors)
        for i, x in zip(smooth, chosen, strict=True):
            given[i] = x
        out: tuple[Tensor, ...] = ctx.residual(solution, *given)
        return out

    return smooth, residual, [tuple(solution), *(tensors[i] for i in smooth)]
