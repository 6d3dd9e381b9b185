"""The loss as a function of the parameters, for what evaluates it more than once in a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .. import tree
from ..errors import ExtraArgumentError, StructureError
from ..typing import Params
from .dependence import independent, is_followed
from .exact_zero import exact_zero
from .kinds import check_function, check_tree
from .leaves import Leaves


class ValueAndGrad(Protocol):
    """A loss with its gradient, as functions of the parameters."""

    def __call__(self, params: Params, /) -> tuple[Tensor, Params]: ...


def value_and_grad(value_fn: Callable[[Any], Tensor]) -> ValueAndGrad:
    """``value_and_grad(value_fn)(params)`` is the loss at `params`, and its gradient there.

    `value_fn` is the extra argument by that name. A plain function is differentiated by
    `torch.func`. One that has a method ``value_and_grad`` knows its own gradient: so does the one
    that an `Optimizer` makes of a closure. An own transformation of whole trees that asks for
    ``value_fn`` takes its gradients from here, and works in both forms.

    Raises:
        HyperparameterError: If `value_fn` is no function of the parameters.
        StructureError: If it does not return one number.
        DerivativeError: If that depends on none of the parameters.
    """
    check_function("value_and_grad", "value_fn", value_fn, "value_fn(params)", 1)
    own = getattr(value_fn, "value_and_grad", None)
    if own is not None:
        return own  # type: ignore[no-any-return]

    def of_params(params: Params, /) -> tuple[Tensor, Params]:
        if not torch.compiler.is_compiling():
            check_tree("value_and_grad", "params", params)
        leaves, spec = tree.flatten(params)
        at = [i for i, p in enumerate(leaves) if p is not None]

        def of_leaves(*given: Tensor) -> Tensor:
            now = list(leaves)
            for i, p in zip(at, given, strict=True):
                now[i] = p
            return one_number(value_fn(spec.unflatten(now)))

        value, found = _gradient(of_leaves, [leaves[i] for i in at])
        grads = list(leaves)
        for i, g in zip(at, found, strict=True):
            grads[i] = g
        return value, spec.unflatten(grads)

    return of_params


class Loss(ABC):
    """The loss as a function of the tensors of a pass, in the form in which rules see them.

    A pure update makes it of `value_fn`, an optimizer of its closure. Gradients come out as rules
    see them too, one for each tensor.
    """

    value: Any = None
    """The loss where the step begins, if it was given."""

    ps: Sequence[Tensor]
    """The parameters there."""

    @abstractmethod
    def value_and_grad(self, ps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss at `ps`, and its gradients there."""

    @abstractmethod
    def hessian(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """What multiplies by the Hessian, where the step begins."""

    def subset(self, chosen: Sequence[int]) -> "Loss":
        """The same, as a function of the chosen tensors; the others are constant."""
        return _SubsetLoss(self, chosen)


class _SubsetLoss(Loss):
    def __init__(self, loss: Loss, chosen: Sequence[int]) -> None:
        self.value, self._loss, self._chosen = loss.value, loss, chosen
        self.ps = [loss.ps[i] for i in chosen]

    def value_and_grad(self, ps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        value, gs = self._loss.value_and_grad(self._put(self._loss.ps, ps))
        return value, [gs[i] for i in self._chosen]

    def hessian(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        times, rest = self._loss.hessian(), [torch.zeros_like(p) for p in self._loss.ps]

        def times_mine(vs: Sequence[Tensor]) -> list[Tensor]:
            products = times(self._put(rest, vs))
            return [products[i] for i in self._chosen]

        return times_mine

    def _put(self, others: Sequence[Tensor], mine: Sequence[Tensor]) -> list[Tensor]:
        whole = list(others)
        for i, x in zip(self._chosen, mine, strict=True):
            whole[i] = x
        return whole


class PureLoss(Loss):
    """Made of the extra argument `value_fn`, for the tensors of one pure update."""

    def __init__(self, value_fn: Callable[[Any], Tensor], value: Any, leaves: Leaves) -> None:
        if not callable(value_fn):
            raise ExtraArgumentError(
                "`value_fn` must be a function of the parameters that returns the loss, got "
                f"{value_fn!r}. The loss itself is `value`."
            )
        self._value_fn, self.value, self._leaves = value_fn, value, leaves
        self.ps = leaves.ps

    def value_and_grad(self, ps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        own = getattr(self._value_fn, "value_and_grad", None)
        if own is not None:
            value, grads = own(self._leaves.put(ps))
            return value, self._leaves.lift("the gradients of `value_fn`", grads)
        found: tuple[Tensor, list[Tensor]] = exact_zero(_gradient)(self._of_tensors, list(ps))
        return found

    def hessian(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        def slope(*ps: Tensor) -> tuple[Tensor, ...]:
            return tuple(_gradient(self._of_tensors, ps)[1])

        # Backwards twice: the Hessian is symmetric. Forward mode would cost less memory, but lacks
        # formulas that this has, such as that of `huber_loss` and of an own `autograd.Function`.
        times = torch.func.vjp(slope, *self.ps)[1]
        return lambda vs: list(times(tuple(vs)))

    def _of_tensors(self, *ps: Tensor) -> Tensor:
        return one_number(self._value_fn(self._leaves.put(ps)))


class TreeLoss(NamedTuple):
    """A `Loss` as the `value_fn` of a stage that sees whole trees."""

    loss: Loss
    make: Callable[[Sequence[Tensor]], Any]

    def __call__(self, params: Params) -> Tensor:
        return self.loss.value_and_grad(tree.leaves(params))[0]

    def value_and_grad(self, params: Params) -> tuple[Tensor, Any]:
        value, gs = self.loss.value_and_grad(tree.leaves(params))
        return value, self.make(gs)


def is_number(value: Any) -> bool:
    """Whether it is one number, as a loss is."""
    return isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()


def one_number(value: Any) -> Tensor:
    """`value`, if it is a loss."""
    if is_number(value):
        return value  # type: ignore[no-any-return]
    got = type(value).__name__
    if isinstance(value, Tensor):
        got = f"a tensor of shape {tuple(value.shape)} in {value.dtype}"
    raise StructureError(
        f"`value_fn` must return the loss, a 0-d floating-point tensor, got {got}. Take the mean "
        "over the batch; what else the model returns has to be kept elsewhere."
    )


def _gradient(fn: Callable[..., Tensor], ps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    if not ps:
        return fn(), []

    def watched(*ps: Tensor) -> Tensor:
        value = fn(*ps)
        if not is_followed(value, ps):
            raise independent("value_and_grad", "`value_fn`")
        return value

    grads, value = torch.func.grad_and_value(watched, argnums=tuple(range(len(ps))))(*ps)
    return value, list(grads)
