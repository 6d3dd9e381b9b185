"""Hypergradients: derivatives of the result of a training by its hyperparameters."""

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from .. import tree
from .._core import checks
from .._core.compact import compact, in_message
from .._core.kinds import check_function, check_iterable, check_tree, check_values
from ..errors import HyperparameterError
from ..training import MakesTx, TrainState, route_hyperparams, slopes
from ..typing import Params
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

    Raises:
        HyperparameterError: If a name of `values` is unknown, or `truncate` is not a positive
            whole number.
    """
    if truncate is not None:
        checks.whole_number("hypergrad", "truncate", truncate, least=1)
    check_values("hypergrad", values)
    routing = route_hyperparams("hypergrad", loss, tx, values)
    check_tree("hypergrad", "params", params)
    check_iterable("hypergrad", "batches", batches, "a list of batches, or another iterable")
    check_function("hypergrad", "outer", outer, "outer(params)")
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
        return outer(*state.evaluated(routing.step(values).tx)), (state, losses)

    if not cut:
        by, (value, (state, losses)) = slopes(total, (live, params))
        return Hypergradient(value, by[0], by[1], state, losses)
    with torch.no_grad():
        start = TrainState.start(routing.step(live).tx, params, buffers)
        middle, before = unroll(step, start, batches[:cut], args=(live,))
    (by_values,), (value, (state, losses)) = slopes(lambda v: total(v, middle), (live,))
    return Hypergradient(value, by_values, None, state, torch.cat([before, losses]))


def _tensors(name: str, value: Any, device: Any) -> Any:
    """A number or a tree of them as tensors.

    Raises:
        HyperparameterError: If a leaf is nothing to differentiate by.
    """

    def one(x: Any) -> Tensor:
        if isinstance(x, Tensor):
            return x
        if isinstance(x, bool) or not isinstance(x, numbers.Real):
            raise HyperparameterError(
                f"`hypergrad`: the value of `{name}` must be a number, a tensor, or a tree of "
                f"them, got {in_message(x)}."
            )
        return torch.tensor(float(x), dtype=torch.float64, device=device)

    leaves, spec = tree.flatten(value)
    return spec.unflatten(list(map(one, leaves)))
