"""Derivatives of functions that have none, from their values nearby."""

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, cast

import torch
from torch import Tensor

from .. import tree
from ..errors import HyperparameterError

Arguments = ParamSpec("Arguments")


def zero_order(
    fn: Callable[Arguments, Tensor],
    *,
    sigma: float = 1.0,
    num_samples: int = 1,
    method: Literal["antithetic", "forward", "naive"] = "antithetic",
    generator: torch.Generator | None = None,
) -> Callable[Arguments, Tensor]:
    """`fn`, with the derivative by its first argument estimated from its values alone.

    With z standard normal, mean over `num_samples` of them:

        antithetic    (f(x + sigma z) - f(x - sigma z)) z / (2 sigma)
        forward       (f(x + sigma z) - f(x)) z / sigma
        naive          f(x + sigma z) z / sigma

    Each is without bias for the slope of f smoothed by a Gaussian of width sigma, and of a linear
    function for its slope; from above to below, the variance grows. `fn` may do anything: it is
    called without autograd, once for the value and again for the derivative, where one is asked
    for. The result is differentiable once, by autograd and by `torch.func.grad`.

        slope = torch.func.grad(zero_order(simulate, sigma=0.1, num_samples=64))(params)

    Args:
        fn: ``fn(x, *args)`` returns a 0-d tensor; x is a tree of tensors.
        sigma: How far away to look, in units of x; positive.
        num_samples: How many directions; the error shrinks with its root.
        method: One of the three formulas.
        generator: Where z comes from; by default, torch's own generator.

    Raises:
        HyperparameterError: If a number is out of range, or there is no such method.

    References:
        Nesterov and Spokoiny, "Random Gradient-Free Minimization of Convex Functions", 2017.
        Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning",
        2017. https://arxiv.org/abs/1703.03864
    """
    if not sigma > 0 or num_samples < 1 or method not in ("antithetic", "forward", "naive"):
        raise HyperparameterError(
            "`zero_order`: `sigma` must be positive, `num_samples` at least 1 and `method` one of "
            f"'antithetic', 'forward', 'naive', got {sigma!r}, {num_samples!r} and {method!r}."
        )

    value_of: Callable[..., Tensor] = fn

    def estimate(x: Any, args: tuple[Any, ...]) -> Any:
        total = tree.zeros_like(x)
        base = value_of(x, *args) if method == "forward" else 0.0
        for _ in range(num_samples):
            z = tree.map(lambda p: _normal(p, generator), x)
            value = value_of(_moved(x, z, sigma), *args)
            if method == "antithetic":
                weight = (value - value_of(_moved(x, z, -sigma), *args)) / (2 * sigma)
            else:
                weight = (value - base) / sigma
            total = _moved(total, z, weight / num_samples)
        return total

    def call(x: Any, *args: Any) -> Tensor:
        leaves, spec = tree.flatten(x)
        return _ZeroOrder.apply(  # type: ignore[no-any-return, no-untyped-call]
            lambda *xs: value_of(spec.unflatten(list(xs)), *args),
            lambda *xs: spec.flatten_up_to(estimate(spec.unflatten(list(xs)), args)),
            *leaves,
        )

    return cast(Callable[Arguments, Tensor], call)


class _ZeroOrder(torch.autograd.Function):
    @staticmethod
    def forward(value: Any, estimate: Any, *leaves: Tensor) -> Tensor:
        return torch.as_tensor(value(*leaves)).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.estimate, *leaves = inputs
        ctx.save_for_backward(*leaves)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (None, None, *(slope * g for g in ctx.estimate(*ctx.saved_tensors)))


def _normal(p: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=generator)


def _moved(x: Any, way: Any, far: Any) -> Any:
    return tree.map(lambda p, z: p + far * z, x, way)
