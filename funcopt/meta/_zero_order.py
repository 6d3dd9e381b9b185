"""Zeroth-order gradients, estimated from values of a function alone."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, cast

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.kinds import check_function, check_tree, described
from ..errors import HyperparameterError, StructureError

Arguments = ParamSpec("Arguments")


def zero_order(
    fn: Callable[Arguments, Tensor],
    *,
    sigma: float = 1.0,
    num_samples: int = 1,
    method: Literal["antithetic", "forward", "naive"] = "antithetic",
    generator: torch.Generator | None = None,
) -> Callable[Arguments, Tensor]:
    """`fn`, with the gradient for its first argument estimated from values of `fn` alone.

    With z standard normal, mean over `num_samples` of them:

        antithetic    (f(x + sigma z) - f(x - sigma z)) z / (2 sigma)
        forward       (f(x + sigma z) - f(x)) z / sigma
        naive          f(x + sigma z) z / sigma

    Each is an unbiased estimate of the gradient of f smoothed by a Gaussian of width sigma, which
    is that of f where f is linear; from above to below, the variance grows. `fn` may do anything:
    it is called without autograd, once for the value and again for the derivative, where one is
    asked for. The result is differentiable once, by autograd, `torch.func.grad` and `jvp`; under
    `torch.func.vmap`, and so in a sweep, `fn` is called for one run after the other.

        slope = torch.func.grad(zero_order(simulate, sigma=0.1, num_samples=64))(params)

    Args:
        fn: ``fn(x, *args)`` returns a 0-d tensor; x is a tree of tensors.
        sigma: The standard deviation of the perturbations, in units of x; positive.
        num_samples: How many directions; the error falls as ``1 / sqrt(num_samples)``.
        method: One of the three formulas.
        generator: Where z comes from; by default, torch's own generator.

    Raises:
        HyperparameterError: If a value is out of range, or there is no such method.

    References:
        Nesterov and Spokoiny, "Random Gradient-Free Minimization of Convex Functions", 2017.
        Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning",
        2017. https://arxiv.org/abs/1703.03864
    """
    check_function("zero_order", "fn", fn, "fn(x, *args)")
    checks.fixed_number("zero_order", "sigma", sigma)
    checks.positive("zero_order", "sigma", sigma)
    checks.whole_number("zero_order", "num_samples", num_samples, least=1)
    checks.choice("zero_order", "method", method, ("antithetic", "forward", "naive"))
    if generator is not None and not isinstance(generator, torch.Generator):
        raise HyperparameterError(
            "`zero_order`: `generator` must be a `torch.Generator`, got "
            f"{described(generator)} A seed is set by `torch.Generator().manual_seed(0)`."
        )

    value_of: Callable[..., Tensor] = fn

    def evaluate(x: Any, args: tuple[Any, ...]) -> Tensor:
        return _number(value_of(x, *args)).clone()

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
        check_tree("zero_order", "x", x)
        check_function("zero_order", "fn", fn, "fn(x, *args)", 1 + len(args))
        leaves, spec = tree.flatten((x, args))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def of(run: Callable[..., Any], tensors: Sequence[Tensor]) -> Any:
            given = list(leaves)
            for i, tensor in zip(places, tensors, strict=True):
                given[i] = tensor
            return run(*spec.unflatten(given))

        def slopes(*tensors: Tensor) -> tuple[Tensor, ...]:
            return tuple(tree.flatten(of(estimate, tensors))[0])

        return _ZeroOrder.apply(  # type: ignore[no-any-return, no-untyped-call]
            lambda *tensors: of(evaluate, tensors),
            slopes,
            generator,
            *(leaves[i] for i in places),
        )

    return cast(Callable[Arguments, Tensor], call)


class _ZeroOrder(torch.autograd.Function):
    """The value; its derivative by the first tensors is another function, `_Slopes`."""

    @staticmethod
    def forward(value: Any, slopes: Any, generator: Any, *tensors: Tensor) -> Tensor:
        made: Tensor = value(*tensors)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.slopes, ctx.generator, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _Slopes.apply(ctx.slopes, ctx.generator, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        rest = [None] * (len(ctx.saved_tensors) - len(found))
        return (None, None, None, *(slope * g for g in found), *rest)

    @staticmethod
    def jvp(ctx: Any, *along: Any) -> Any:
        found = _Slopes.apply(ctx.slopes, ctx.generator, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        ways = along[3 : 3 + len(found)]
        return sum((g * w).sum() for g, w in zip(found, ways, strict=True) if w is not None)

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: Any, value: Any, slopes: Any, generator: Any, *tensors: Tensor
    ) -> tuple[Tensor, int]:
        def one(*own: Tensor) -> Tensor:
            made: Tensor = _ZeroOrder.apply(value, slopes, generator, *own)  # type: ignore[no-untyped-call]
            return made

        return torch.stack(_one_by_one(one, info, in_dims[3:], generator, tensors)), 0


class _Slopes(torch.autograd.Function):
    """The estimate of the derivative, itself without one."""

    @staticmethod
    def forward(slopes: Any, generator: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        made: tuple[Tensor, ...] = slopes(*tensors)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: Any, slopes: Any, generator: Any, *tensors: Tensor
    ) -> Any:
        if info.randomness == "error":
            raise HyperparameterError(
                "`zero_order` draws random directions: inside of `torch.func.vmap`, say "
                '`randomness="different"`, or "same".'
            )

        def one(*own: Tensor) -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = _Slopes.apply(slopes, generator, *own)  # type: ignore[no-untyped-call]
            return made

        rows = _one_by_one(one, info, in_dims[2:], generator, tensors)
        return tuple(map(torch.stack, zip(*rows, strict=True))), (0,) * len(rows[0])


def _one_by_one(
    fn: Callable[..., Any], info: Any, dims: Any, generator: Any, tensors: Sequence[Tensor]
) -> list[Any]:
    """`fn` of each run that is mapped over, since it may be no function that can be mapped."""
    source = generator or torch.default_generator
    state, made = source.get_state(), []
    for run in range(info.batch_size):
        if info.randomness == "same":
            source.set_state(state)
        each = zip(tensors, dims, strict=True)
        made.append(fn(*(x if dim is None else x.select(dim, run) for x, dim in each)))
    return made


def _number(value: Any) -> Tensor:
    """What `fn` returns, as a tensor.

    Raises:
        StructureError: If it is not one number.
    """
    plain = isinstance(value, (int, float))
    if plain or (isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex()):
        return torch.as_tensor(value)
    raise StructureError(
        f"`zero_order`: `fn` must return one number, such as a 0-d tensor, got {described(value)}"
    )


def _normal(p: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(p.shape, dtype=p.dtype, device=p.device, generator=generator)


def _moved(x: Any, way: Any, far: Any) -> Any:
    return tree.map(lambda p, z: p + far * z, x, way)
