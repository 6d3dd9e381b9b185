"""Hypergradients: derivatives of the result of a training by its hyperparameters."""

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.compact import compact, in_message
from .._core.dependence import depends, independent
from .._core.kinds import check_batches, check_function, check_tree, check_values, described
from .._core.loss import is_number
from .._core.tensor_rule import GradientTransformation
from .._core.warning import warn
from .._hints.calls import listed
from ..errors import HyperparameterError, StructureError
from ..training import MakesTx, TrainState, check_loss, route_hyperparams, slopes
from ..typing import Params
from ._checkpoint import is_smooth
from ._unroll import unroll


class Hypergradient(NamedTuple, Generic[Params]):
    """A training, and the derivatives of its result."""

    value: Tensor  # (): what `outer` returned
    values: dict[str, Any]  # its gradient for every hyperparameter, by name
    params: Params | None  # its gradient for the initial parameters; `None` if truncated
    state: TrainState[Params]  # after the last step
    losses: Tensor  # (steps,): the loss before each

    def __repr__(self) -> str:
        return compact(self)


def hypergrad(
    loss: Callable[..., Any],
    tx: MakesTx,
    values: Mapping[str, Any],
    params: Params,
    batches: Iterable[Any],
    outer: Callable[..., Tensor],
    *,
    buffers: Any = (),
    truncate: int | None = None,
    checkpoint: int | None = None,
) -> Hypergradient[Params]:
    """Hypergradients: trains, then differentiates ``outer(params)`` by `values` and `params`.

        found = hypergrad(loss, adam(), {"lr": 1e-3}, params, batches, validation_loss)
        found.values["lr"]

    The arguments are those of `sweep`, with one setting instead of many: `sweep` tries values, this
    differentiates by them. All derivatives come from one backward pass through the training.

    Args:
        loss: ``loss(params, batch)``, or with `buffers` ``loss(params, buffers, batch)``.
        tx: A transformation, or a function that makes one of `values`, passed by keyword.
        values: Numbers, tensors of any shape, or trees of them, by name: hyperparameters of `tx`,
            as in `hyperparams`, arguments of the function that makes it, e.g. a tree of learning
            rates like the parameters, or keyword-only arguments of `loss`, e.g. weights of the
            examples. Numbers become float64.
        params: The initial parameters.
        batches: One for each step.
        outer: ``outer(params)``, or with buffers ``outer(params, buffers)``: a 0-d tensor. Averaged
            parameters are used where `tx` keeps an average, as in `sweep`.
        buffers: What the loss changes other than the parameters.
        truncate: Differentiate through so many of the last steps only; those before are made
            without history.
        checkpoint: As in `unroll`: less memory, more time.

    Warns:
        UserWarning: If the result does not depend on an argument of the caller's own function.

    Raises:
        HyperparameterError: If a name of `values` is unknown, `truncate` is not a positive whole
            number, or `batches` is one batch.
        DerivativeError: If `loss` or `outer` does not depend on its parameters.
        StructureError: If `outer` does not return one number.
    """
    if truncate is not None:
        checks.whole_number("hypergrad", "truncate", truncate, least=1)
    check_values("hypergrad", values)
    routing = route_hyperparams("hypergrad", loss, tx, values)
    check_loss("hypergrad", loss, buffers != ())
    check_tree("hypergrad", "params", params)
    check_batches("hypergrad", batches)
    call = "outer(params)" if buffers == () else "outer(params, buffers)"
    check_function("hypergrad", "outer", outer, call, 1 if buffers == () else 2)
    device = next((x.device for x in tree.leaves(params)), None)
    live = {name: _tensors(name, value, device) for name, value in values.items()}
    batches = list(batches)
    cut = 0 if truncate is None else max(len(batches) - truncate, 0)

    def step(
        state: TrainState[Any], batch: Any, values: Mapping[str, Any]
    ) -> tuple[TrainState[Any], Tensor]:
        return routing.step(values)(state, batch)

    def total(
        values: Mapping[str, Any], begin: Any
    ) -> tuple[Tensor, tuple[TrainState[Any], Tensor]]:
        state = begin if cut else TrainState.start(routing.step(values).tx, begin, buffers)
        state, losses = unroll(step, state, batches[cut:], args=(values,), checkpoint=checkpoint)
        return _outer_value(outer, state.evaluated(routing.step(values).tx)), (state, losses)

    if not cut:
        by, (value, (state, losses)) = slopes(total, (live, params))
        own = routing.loss_names if isinstance(tx, GradientTransformation) else live
        if unused := [name for name in own if _is_unused(live[name], by[0][name])]:
            warn(
                f"`hypergrad`: the result does not depend on {listed(unused)}, so the derivative "
                "is zero: the function that takes it does not use it, or detaches it."
            )
        by = _with_zeros(by, (live, params))
        return Hypergradient(value, by[0], by[1], state, losses)
    with torch.no_grad():
        start = TrainState.start(routing.step(live).tx, params, buffers)
        middle, before = unroll(step, start, batches[:cut], args=(live,))
    (by_values,), (value, (state, losses)) = slopes(lambda v: total(v, middle), (live,))
    by_values = _with_zeros(by_values, live)
    return Hypergradient(value, by_values, None, state, torch.cat([before, losses]))


def _outer_value(outer: Callable[..., Any], given: tuple[Any, ...]) -> Tensor:
    """What `outer` returns, checked: the loss of trained parameters.

    Raises:
        StructureError: If it is not one number.
        DerivativeError: If it does not depend on parameters that derivatives are taken by.
    """
    leaves, spec = tree.flatten(given[0])
    followed = [isinstance(x, Tensor) and x.requires_grad for x in leaves]
    leaves = [x.view_as(x) if mine else x for x, mine in zip(leaves, followed, strict=True)]
    value = outer(spec.unflatten(leaves), *given[1:])
    if not is_number(value):
        got = described(value)
        raise StructureError(
            f"`hypergrad`: `outer` must return one number, a 0-d floating-point tensor, got {got} "
            "Take the mean over the examples."
        )
    number: Tensor = value
    if not depends(number, [x for x, mine in zip(leaves, followed, strict=True) if mine]):
        raise independent("hypergrad", "`outer`")
    return number


def _is_unused(value: Any, by: Any) -> bool:
    """Whether nothing depends on a value of the caller's."""
    found, spec = tree.flatten(by)
    return any(map(is_smooth, spec.flatten_up_to(value))) and all(x is None for x in found)


def _with_zeros(by: Any, values: Any) -> Any:
    """Derivatives, with zeros for what nothing depends on."""
    found, spec = tree.flatten(by)
    each = zip(found, spec.flatten_up_to(values), strict=True)
    zeros = [
        torch.zeros_like(x) if g is None and x is not None and is_smooth(x) else g for g, x in each
    ]
    return spec.unflatten(zeros)


def _tensors(name: str, value: Any, device: Any) -> Any:
    """A number or a tree of them as tensors.

    Raises:
        HyperparameterError: If a leaf is nothing to differentiate by.
    """

    def one(x: Any) -> Tensor:
        if isinstance(x, Tensor) and is_smooth(x):
            return x
        if isinstance(x, Tensor):
            raise HyperparameterError(
                f"`hypergrad`: the value of `{name}` must be floating-point, to have a derivative, "
                f"got {x.dtype}."
            )
        if isinstance(x, bool) or not isinstance(x, numbers.Real):
            raise HyperparameterError(
                f"`hypergrad`: the value of `{name}` must be a number, a tensor, or a tree of "
                f"them, got {in_message(x)}."
            )
        return torch.tensor(float(x), dtype=torch.float64, device=device)

    leaves, spec = tree.flatten(value)
    return spec.unflatten(list(map(one, leaves)))
