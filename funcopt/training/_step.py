"""One training step, as a pure function of what it changes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, overload

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from .. import tree
from .._core import checks
from .._core.apply import update_and_apply
from .._core.average import only_average
from .._core.compact import compact, missing_attribute
from .._core.dependence import independent, is_followed
from .._core.exact_zero import exact_zero
from .._core.kinds import check_function, check_is, check_tree, expect_transformation
from .._core.loss import is_number
from .._core.record import Record
from .._core.tensor_rule import GradientTransformation
from ..errors import StructureError
from ..typing import OptState, Params, Tree
from ._grad import live_slopes

Result = TypeVar("Result")
"""The loss, or with `has_aux` the loss and its auxiliary outputs."""


class TrainState(NamedTuple, Generic[Params]):
    """What a training step changes: parameters, optimizer state and buffers."""

    params: Params
    opt_state: OptState
    buffers: Any = ()  # what else the loss changes, such as the statistics of a batch norm

    def __repr__(self) -> str:
        return compact(self)

    @classmethod
    def start(
        cls, tx: GradientTransformation, params: Tree, buffers: Any = ()
    ) -> "TrainState[Tree]":
        """The state of training with `tx` before the first step.

        Raises:
            HyperparameterError: If `tx` is no transformation.
            LeafError: If `params` is no tree of floating-point or complex tensors.
        """
        expect_transformation("TrainState.start", tx, "TrainState.start(tx, params)")
        check_tree("TrainState.start", "params", params)
        return TrainState(params, tx.init(params), buffers)

    def evaluated(self, tx: GradientTransformation, *, which: str | None = None) -> tuple[Any, ...]:
        """What to evaluate the model with: the parameters, or the averages that `tx` keeps.

        Behind them the buffers, if there are any: the arguments of an evaluation. Of several
        averages, `which` names one, as in `eval_params`.
        """
        expect_transformation("TrainState.evaluated", tx, "state.evaluated(tx)")
        params = only_average("TrainState.evaluated", tx, which).averaged(
            self.opt_state, self.params
        )
        return (params,) if self.buffers == () else (params, self.buffers)


if not TYPE_CHECKING:  # which knows better what there is
    TrainState.__getattr__ = missing_attribute


class train_step(Record, Generic[Result]):
    """A training step: ``state, value = step(state, batch)``.

        step = train_step(loss, adamw(1e-3))
        state = TrainState.start(step.tx, params)
        for batch in batches:
            state, value = step(state, batch)

    It is pure: it changes nothing, so it can be mapped by `torch.func.vmap`, differentiated through
    (`unroll`), compiled (``torch.compile(fullgraph=True)``) and exported. Training of `N` models is
    ``vmap(step, in_dims=(0, None))``; `sweep` does that, with hyperparameters and chunks.

    Where nothing requires grad, no history is kept. Outside of meta-learning, pass parameters
    that do not: ``{k: p.detach() for k, p in model.named_parameters()}``, or `split_module`.

    Args:
        loss: ``loss(params, batch)`` returns a 0-d tensor. In a training with buffers, it is called
            ``loss(params, buffers, batch)`` and returns the value and the new buffers.
        tx: The transformation. The extra arguments `value`, the loss, and `value_fn`, the loss as a
            function of the parameters, are passed to those that take them. To one that takes a
            gradient for each example, such as `dpsgd`, those are given: the loss is called with
            batches of one, along the first dimension of `batch`.
        has_aux: Whether the loss has auxiliary outputs, such as metrics: ``(value, aux)``, or
            with buffers ``(value, buffers, aux)``. A step then returns ``state, (value, aux)``.

    Raises:
        HyperparameterError: If `loss` or `tx` is something else.
        DerivativeError: In a step, if the loss depends on none of the parameters. (It may depend on
            some only.)
        StructureError: In a step, if the loss returns something else.
    """

    loss: Callable[..., Any]
    tx: GradientTransformation
    has_aux: bool = False

    def __post_init__(self) -> None:
        call = "train_step(loss, tx)"
        check_function("train_step", "loss", self.loss, "loss(params, batch)")
        expect_transformation("train_step", self.tx, call)
        checks.switch("train_step", "has_aux", self.has_aux)

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "train_step[Tensor]",
            loss: Callable[..., Any],
            tx: GradientTransformation,
            has_aux: Literal[False] = False,
        ) -> None: ...

        @overload
        def __init__(
            self: "train_step[tuple[Tensor, Any]]",
            loss: Callable[..., Any],
            tx: GradientTransformation,
            has_aux: Literal[True],
        ) -> None: ...

        def __init__(self, loss: Any, tx: Any, has_aux: Any = False) -> None: ...

    def __call__(self, state: TrainState[Params], batch: Any) -> tuple[TrainState[Params], Result]:
        check_is("train_step", "state", state, TrainState, "TrainState(params, tx.init(params))")
        if not torch.compiler.is_compiling():
            check_tree("train_step", "state.params", state.params)
        has_buffers = state.buffers != ()

        def of(params: Any, batch: Any = batch) -> tuple[Tensor, tuple[Any, Any]]:
            given = (state.buffers, batch) if has_buffers else (batch,)
            return self._parts(self._call(params, *given), has_buffers)

        if self.tx.takes_examples():
            grads, value, aux = self._of_examples(state, batch)
            buffers = state.buffers
        else:
            slopes = exact_zero(
                lambda params, batch: live_slopes(lambda p: of(p, batch), (params,), "train_step")
            )
            (grads,), (value, (buffers, aux)) = slopes(state.params, batch)
        extra = self._extra(value, lambda params: of(params)[0])
        new = TrainState(
            *update_and_apply(self.tx, grads, state.opt_state, state.params, **extra), buffers
        )
        result: Any = (value, aux) if self.has_aux else value
        return new, result

    def _call(self, *args: Any) -> Any:
        """What the loss returns.

        Raises:
            HyperparameterError: If it cannot be called so.
        """
        if torch.compiler.is_compiling():
            return self.loss(*args)
        try:
            return self.loss(*args)
        except TypeError:
            check_loss("train_step", self.loss, len(args) > 2)
            raise  # it is from within

    def _parts(self, found: Any, has_buffers: bool) -> tuple[Tensor, tuple[Any, Any]]:
        """The value of the loss; the buffers, and its auxiliary outputs.

        Raises:
            StructureError: If the loss has returned something else.
        """
        wanted = ["value", *["buffers"] * has_buffers, *["aux"] * self.has_aux]
        parts = found if len(wanted) > 1 else (found,)
        if isinstance(parts, tuple) and len(parts) == len(wanted) and is_number(parts[0]):
            named = dict(zip(wanted, parts, strict=True))
            return named["value"], (named.get("buffers", ()), named.get("aux", ()))
        several = isinstance(found, tuple)
        got = f"a tuple of {', '.join(map(_kind, found))}" if several else _kind(found)
        raise StructureError(
            f"`train_step`: `loss` must return {_said(wanted)}, where the value is a 0-d "
            f"floating-point tensor, got {got}. "
            "Metrics and other auxiliary outputs need `train_step(loss, tx, has_aux=True)`, and "
            "buffers that change `TrainState.start(tx, params, buffers)`."
        )

    def _of_examples(self, state: TrainState[Any], batch: Any) -> tuple[Any, Tensor, Any]:
        """The gradient of each example, the mean loss, and the auxiliary outputs of each."""
        if state.buffers != ():
            raise StructureError(
                f"`train_step`: `{type(self.tx).__name__}` takes a gradient for each example, and "
                "buffers would mix them: use a module without, such as one with a group norm."
            )

        def one(params: Any, example: Any) -> tuple[Tensor, Any]:
            found = self._call(params, tree.map(lambda x: x[None], example))
            value, (_, aux) = self._parts(found, has_buffers=False)
            if not is_followed(value, tree.leaves(params)):
                raise independent("train_step", "the loss")
            return value, aux if self.has_aux else ()

        of_each = vmap(grad_and_value(one, has_aux=True), in_dims=(None, 0))
        grads, (values, aux) = of_each(state.params, batch)
        return grads, values.mean(), aux

    def _extra(self, value: Tensor, value_fn: Callable[[Any], Tensor]) -> dict[str, Any]:
        known = self.tx.extra_names() or frozenset()
        offered = {"value": value, "value_fn": value_fn}
        return {name: offered[name] for name in offered if name in known}


def check_loss(who: str, loss: Any, buffers: bool) -> None:
    """Refuses what cannot be called as a loss, with or without buffers."""
    call = "loss(params, buffers, batch)" if buffers else "loss(params, batch)"
    check_function(who, "loss", loss, call, 3 if buffers else 2)


def _said(wanted: list[str]) -> str:
    return f"({', '.join(wanted)})" if len(wanted) > 1 else "the value alone"


def _kind(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"a tensor of shape {tuple(x.shape)} in {x.dtype}"
    return type(x).__name__
