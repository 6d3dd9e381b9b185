"""The closure of a step as a function of the parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from .._core import precision
from .._core.loss import Loss
from .._core.tensor_rule import GradientTransformation
from .._numerics import shards
from .._numerics.autocast import forget_casts
from .._numerics.scalars import near
from ..combinators import chain, walk
from ..engine import StepInputs
from ..errors import ExtraArgumentError, HyperparameterError, SparseGradientError
from ._options import Options, named_parameters


class ClosureLoss(Loss):
    """Writes parameters in place, calls the closure, and reads the gradients.

    Whatever happens, at the end of `restoring` parameters and gradients are what they were.
    """

    def __init__(
        self,
        who: str,
        param_groups: list[Options],
        closure: Callable[[], Any],
        value: Any,
        inputs: StepInputs,
        ps: Sequence[Tensor],
    ) -> None:
        self._who, self._closure, self._flips = who, closure, inputs.negate
        self._params, self.ps, self._ranks = inputs.ps, ps, inputs.ranks
        self._sign = -1.0 if any(inputs.negate) else 1.0
        self._all = [p for group in param_groups for _, p in named_parameters(group)]
        self._grads = [p.grad for p in self._all]
        self.value = self._number(value)

    @contextmanager
    def restoring(self) -> Iterator[Loss]:
        """Within the context, parameters and gradients may be exchanged."""
        kept: list[Any] = [None if g is None else g.detach().clone() for g in self._grads]
        try:
            yield self
        finally:
            self._write(self.ps)
            for p, old, values in zip(self._all, self._grads, kept, strict=True):
                p.grad = old.detach() if old is not None and old.requires_grad else old
                if p.grad is not None:
                    p.grad.copy_(values)

    def value_and_grad(self, ps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        self._write(ps)
        for p in self._all:
            p.grad = None  # so that a closure need not, and what was is not added to
        with torch.enable_grad():
            value = self._number(self._closure())
        each = zip(self._params, ps, self._flips, strict=True)
        return value, [self._gradient(p, now, flip) for p, now, flip in each]

    def _gradient(self, p: Tensor, like: Tensor, flip: bool) -> Tensor:
        """What the closure has left in `p.grad`; a copy, for the next call may write there too."""
        g = p.grad
        if g is None:
            return torch.zeros_like(like)
        if g.layout is not torch.strided:
            raise SparseGradientError(
                f"`{self._who}` does not support sparse gradients, and that of a parameter of "
                f"shape {tuple(p.shape)} is: build the embedding with `sparse=False`."
            )
        g = shards.placed_as(-g.detach() if flip else g.detach(), p)
        return precision.lift(g, like.dtype).to(like.device, copy=True)

    def hessian(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        of: dict[int, Any] = {id(p): g for p, g in zip(self._all, self._grads, strict=True)}
        gs, ps = [of[id(p)] for p in self._params], list(self._params)
        if not any(g.requires_grad for g in gs):
            raise ExtraArgumentError(
                f"`{self._who}.step`: second derivatives are needed, so the closure has to keep "
                "the graph of the gradients: `loss.backward(create_graph=True)`."
            )

        def times(vs: Sequence[Tensor]) -> list[Tensor]:
            with torch.enable_grad():  # a gradient without a graph is constant
                along = [
                    (g, precision.lower(v, g).to(g.device)) for g, v in zip(gs, vs, strict=True)
                ]
                inside, outside = zip(*[x for x in along if x[0].requires_grad], strict=True)
                found = torch.autograd.grad(
                    inside, ps, outside, retain_graph=True, allow_unused=True
                )
            return [
                torch.zeros_like(v)
                if x is None
                else self._sign * precision.lift(x, v.dtype).detach().to(v.device)
                for v, x in zip(vs, found, strict=True)
            ]

        return times

    def _write(self, ps: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for p, now in zip(self._params, ps, strict=True):
                here = shards.local(p)
                here.copy_(precision.lower(now, here))
        forget_casts()

    def _number(self, value: Any) -> Tensor:
        """The loss as the transformation sees it: of all ranks, the same on each of them."""
        if value is None:
            raise ExtraArgumentError(
                f"`{self._who}.step`: the closure must return the loss, got None."
            )
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=torch.float64)
        mean: Tensor = self._ranks.mean(value.detach() * self._sign)
        device = self.ps[0].device if self.ps else mean.device  # a rank without gradients has none
        return near(mean.reshape(()), device)


def call(closure: Callable[[], Any]) -> Any:
    """What a closure returns."""
    with torch.enable_grad():
        return closure()


def evaluator(
    who: str,
    param_groups: list[Options],
    closure: Callable[[], Any],
    value: Any,
    inputs: StepInputs,
) -> Callable[[Sequence[Tensor]], AbstractContextManager[Loss]]:
    """What makes the closure a function of the tensors of `inputs`, given copies of them."""
    return lambda ps: ClosureLoss(who, param_groups, closure, value, inputs, ps).restoring()


def check_no_function(who: str, extra: Mapping[str, Any]) -> None:
    """Refuses the loss as a function of the parameters, which is made of the closure here."""
    if "value_fn" in extra:
        raise ExtraArgumentError(
            f"`{who}.step`: `value_fn` is made of the closure: call `step(closure)`. The pure form "
            "takes a function of the parameters."
        )


def check_closure(
    who: str,
    tx: GradientTransformation,
    param_groups: list[Options],
    differentiable: bool,
    closure: Any,
) -> None:
    """Refuses a step of which the loss has to be evaluated again, and cannot be."""
    if closure is None:
        asking = [x for _, x in walk(tx) if x.needs_closure and not isinstance(x, chain)]
        raise ExtraArgumentError(
            f"`{who}.step`: `{type(asking[-1]).__name__}` evaluates the loss more than once in a "
            "step, so it needs a closure: call `step(closure)`, where `closure()` sets the "
            "gradients to zero, computes the loss, calls `loss.backward()` and returns the loss."
        )
    if len({bool(g["maximize"]) for g in param_groups}) > 1 or differentiable:
        raise HyperparameterError(
            f"`{who}`: the closure has one loss, so `maximize` must be the same in all groups; and "
            "its gradients are written in place, so `differentiable` needs the pure form: "
            "`tx.update(grads, state, params, value_fn=...)`."
        )
