"""Derivatives of a solution, from the equation that it solves."""

from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.func import vjp

from .. import tree
from ..typing import Tree, TypeAliasType
from ._closure_check import captured, refuse_traced
from ._solve import MatVec, solve_normal_cg

Arguments = ParamSpec("Arguments")
Solve = TypeAliasType("Solve", Callable[[MatVec, Any], Any])
"""``solve(matvec, b)``, of trees."""


def custom_root(
    optimality: Callable[..., Any],
    *,
    solve: Solve | None = None,
) -> Callable[[Callable[Arguments, Tree]], Callable[Arguments, Tree]]:
    """Gives a solver the derivative of the root it finds, however it finds it.

        @custom_root(torch.func.grad(inner_loss))
        def solver(start, theta):  # the minimum of inner_loss(params, theta) in params
            ...
            return params

        slope = torch.func.grad(lambda theta: outer_loss(solver(start, theta)))(theta)

    Where ``optimality(x, *args) = F(x, *args)`` is zero, the implicit function theorem gives
    ``dx/dargs = -(dF/dx)^-1 dF/dargs``: one linear system for each backward pass, whatever the
    number of steps of the solver, whose history is not kept. It holds at a root; as far as the
    solver stops from it, so far the derivative is off.

    The result is ``solver(start, *args)``, with derivatives of every order by `args`; by `start`,
    where the search begins, the derivative is zero.

    Args:
        optimality: ``optimality(x, *args)``, a tree like x: the gradient of an inner loss, or
            ``step(x, *args) - x`` of a fixed point. What is differentiated by has to come in
            through `args`.
        solve: How to solve the linear system: `solve_normal_cg()`, the default; where `optimality`
            is the gradient of a loss at its minimum, `solve_cg()`; `solve_neumann()`; or any
            ``solve(matvec, b)``.

    References:
        Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022.
        https://arxiv.org/abs/2105.15183
    """
    linear = solve_normal_cg() if solve is None else solve

    def decorate(solver: Callable[..., Any]) -> Callable[..., Any]:
        def root(start: Any, *args: Any) -> Any:
            refuse_traced("custom_root", optimality)
            leaves, spec = tree.flatten((start, *args))
            begins = len(tree.flatten(start)[0])
            places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
            out_spec: list[tree.Spec[Any]] = []

            def rebuilt(tensors: tuple[Tensor, ...]) -> Any:
                given = list(leaves)
                for i, x in zip(places, tensors, strict=True):
                    given[i] = x
                return spec.unflatten(given)

            def find(*tensors: Tensor) -> tuple[Tensor, ...]:
                found, outline = tree.flatten(solver(*rebuilt(tensors)))
                out_spec[:] = [outline]
                return tuple(x.clone() for x in found)

            def residual(solution: tuple[Tensor, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
                x = out_spec[0].unflatten(list(solution))
                return tuple(out_spec[0].flatten_up_to(optimality(x, *rebuilt(tensors)[1:])))

            flat = [leaves[i] for i in places]
            first = sum(i < begins for i in places)  # of what is found through `args`
            found = _Root.apply(find, residual, linear, first, *flat)  # type: ignore[no-untyped-call]
            return out_spec[0].unflatten(list(found))

        return root

    return decorate


class _Root(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(find: Any, residual: Any, solve: Any, first: int, *tensors: Tensor) -> Any:
        tensors = tuple(x.detach() for x in tensors)
        out = tuple(x.detach() for x in find(*tensors))
        with torch.enable_grad():
            if any(x.requires_grad for x in residual(out, *tensors)):
                raise captured("custom_root")
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.residual, ctx.solve, ctx.first, *tensors = inputs
        ctx.save_for_backward(*output, *tensors)
        ctx.count = len(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        solution, tensors = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        smooth = [i for i in range(ctx.first, len(tensors)) if _is_smooth(tensors[i])]

        def residual(solution: Any, *chosen: Tensor) -> Any:
            given = list(tensors)
            for i, x in zip(smooth, chosen, strict=True):
                given[i] = x
            return ctx.residual(solution, *given)

        pull = vjp(residual, solution, *(tensors[i] for i in smooth))[1]
        adjoint = ctx.solve(lambda v: pull(v)[0], grads)
        slopes = pull(adjoint)[1:]
        found: list[Tensor | None] = [None] * len(tensors)
        for i, slope in zip(smooth, slopes, strict=True):
            found[i] = -slope
        return (None, None, None, None, *found)


def _is_smooth(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()
