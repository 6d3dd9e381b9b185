"""One step of training, as a pure function of what it changes."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple

from torch import Tensor
from torch.func import grad_and_value, vmap

from .. import tree
from .._core.apply import apply_updates
from .._core.record import Record
from .._core.tensor_rule import GradientTransformation
from ..errors import StructureError
from ..typing import OptState, Params, Tree
from ._grad import live_slopes


class TrainState(NamedTuple, Generic[Params]):
    """What a step of training changes."""

    params: Params
    opt_state: OptState
    buffers: Any = ()  # what the loss changes besides, such as the statistics of a batch norm

    @classmethod
    def start(
        cls, tx: GradientTransformation, params: Tree, buffers: Any = ()
    ) -> "TrainState[Tree]":
        """Training with `tx` before its first step."""
        return TrainState(params, tx.init(params), buffers)


class train_step(Record):
    """A step of gradient descent: ``state, value = step(state, batch)``.

        step = train_step(loss, adamw(1e-3))
        state = TrainState.start(step.tx, params)
        for batch in batches:
            state, value = step(state, batch)

    It is pure: it changes nothing, so it can be mapped by `torch.func.vmap`, differentiated through
    (`unroll`), compiled (``torch.compile(fullgraph=True)``) and exported. Training of `N` models is
    ``vmap(step, in_dims=(0, None))``; `sweep` does that, with hyperparameters and chunks.

    Where nothing requires grad, no history is kept. Outside of learning to learn, pass parameters
    that do not: ``{k: p.detach() for k, p in model.named_parameters()}``, or `split_module`.

    Args:
        loss: ``loss(params, batch)`` returns a 0-d tensor. In a training with buffers, it is called
            ``loss(params, buffers, batch)`` and returns the value and the new buffers.
        tx: The transformation. The extra arguments `value`, the loss, and `value_fn`, the loss as a
            function of the parameters, are passed to those that take them. To one that takes a
            gradient for each example, such as `dpsgd`, those are given: the loss is called with
            batches of one, along the first dimension of `batch`.
    """

    loss: Callable[..., Any]
    tx: GradientTransformation

    def __call__(self, state: TrainState[Params], batch: Any) -> tuple[TrainState[Params], Tensor]:
        has_buffers = state.buffers != ()

        def of(params: Any) -> Any:
            given = (state.buffers, batch) if has_buffers else (batch,)
            found = self.loss(params, *given)
            return found if has_buffers else (found, ())

        if self.tx.takes_examples():
            grads, value, buffers = *self._of_examples(state, batch), state.buffers
        else:
            (grads,), (value, buffers) = live_slopes(of, (state.params,))
        extra = self._extra(value, lambda params: of(params)[0])
        updates, opt_state = self.tx.update(grads, state.opt_state, state.params, **extra)
        return TrainState(apply_updates(state.params, updates), opt_state, buffers), value

    def _of_examples(self, state: TrainState[Any], batch: Any) -> tuple[Any, Tensor]:
        """The gradient of each example, and the mean loss."""
        if state.buffers != ():
            raise StructureError(
                f"`train_step`: `{type(self.tx).__name__}` takes a gradient for each example, and "
                "buffers would mix them: use a module without, such as one with a group norm."
            )

        def one(params: Any, example: Any) -> Tensor:
            value: Tensor = self.loss(params, tree.map(lambda x: x[None], example))
            return value

        grads, values = vmap(grad_and_value(one), in_dims=(None, 0))(state.params, batch)
        return grads, values.mean()

    def _extra(self, value: Tensor, value_fn: Callable[[Any], Tensor]) -> dict[str, Any]:
        known = self.tx.extra_names() or frozenset()
        offered = {"value": value, "value_fn": value_fn}
        return {name: offered[name] for name in offered if name in known}
