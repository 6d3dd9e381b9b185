"""The pure form without copies: its arguments are donated, and the results lie in their memory."""

from typing import Any, Never

import torch
from torch import Tensor

from .. import tree
from .._core.apply import apply_updates, apply_updates_
from .._core.compact import in_message
from .._core.due import filled
from .._core.leaves import Leaves, checked_params
from .._core.stage import State
from .._core.tensor_rule import GradientTransformation, PerTensor
from .._numerics import shards
from .._numerics.scalars import is_traced
from ..errors import DonatedError, HyperparameterError, StructureError
from ..typing import OptState, Params, Tree, Updates
from ._engine import Engine
from ._options import EngineOption, updates_made_by
from ._trees import CheckedTrees


class Donated(Tensor):
    """A tensor that was donated: its memory belongs to another one now."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Never:
        raise DonatedError(
            "this tensor was donated to a step, and its memory belongs to what the step returned: "
            "write `params, state = step(params, grads, state)`, and clone what is needed later."
        )


class donated:
    """A step of `tx` in place, without copies: ``params, state = step(params, grads, state)``.

        step = donated(adamw(1e-3))
        state = step.init(params)
        for batch in data:
            params, state = step(params, grad(loss)(params, batch), state)

    The results are those of `update` and `apply_updates`, but no memory is allocated: `params` and
    `state` are donated, and what is returned lies in their memory, as with JAX's donated arguments.
    To use one of those tensors afterwards is an error. Gradients are only read. A `Parameter` of a
    module cannot be donated: it is changed in place and returned.

    It is no function to differentiate through or to map over; under `torch.func` and
    `torch.compile` it is `update` and `apply_updates`, and nothing is donated.

    Args:
        tx: The transformation.
        engine: As for `Optimizer`.

    Raises:
        DonatedError: If a donated tensor is used again.
        StructureError: If the trees do not match; nothing is changed.
        HyperparameterError: If `tx` is no transformation.
    """

    def __init__(self, tx: GradientTransformation, *, engine: EngineOption = "auto") -> None:
        if not isinstance(tx, GradientTransformation):
            raise HyperparameterError(
                f"`donated`: expected a transformation, got {in_message(tx)}."
            )
        self.tx = tx
        self._engine = Engine(engine, "donated")
        self._checked: CheckedTrees | None = None

    @property
    def engine(self) -> str:
        """The engine that has made the last step: "fused", "foreach", "torch" or "eager"."""
        return self._engine.name

    def __repr__(self) -> str:
        return f"donated({self.tx!r})"

    def init(self, params: Params) -> OptState:
        """The state before the first step: that of `tx`, which no history is kept of."""
        with torch.no_grad():
            return self.tx.init(params)

    def __call__(
        self, params: Params, grads: Updates, state: Tree, **extra: Any
    ) -> tuple[Params, Tree]:
        if torch.compiler.is_compiling() or _is_transformed(params):
            updates, state = self.tx.update(grads, state, params, **extra)
            return apply_updates(params, updates), state
        with torch.no_grad():
            tx = self.tx
            if isinstance(tx, PerTensor) and tx.is_per_tensor() and "value_fn" not in extra:
                return self._in_place(tx, params, grads, state, extra)
            # Stages that see whole trees, or evaluate the loss again, return a new state.
            with updates_made_by(self._engine.option):
                updates, state = self.tx.update(grads, state, params, **extra)
            apply_updates_(params, updates)
            return tree.map(_donate, params), state

    def _in_place(
        self, tx: PerTensor, params: Params, grads: Updates, state: Any, extra: dict[str, Any]
    ) -> tuple[Params, OptState]:
        ps, spec = tree.flatten(params)
        if not isinstance(state, State):
            raise StructureError(
                f"`donated`: the state, of type `{type(state).__name__}`, is not one of "
                f"`{type(tx).__name__}`. The order is `step(params, grads, state)`."
            )
        gs, slots = spec.flatten_up_to(grads), spec.flatten_up_to(state.slots)
        gs, unknown = filled(tx, gs, slots, ps, params)
        gs = [g if i not in unknown or unknown[i] else None for i, g in enumerate(gs)]
        flat, of_slots = tree.flatten(state.slots)
        step = state.step + 1
        active = [i for i, g in enumerate(gs) if g is not None]
        columns = [[x[i] for i in active] for x in (ps, gs, slots)]
        found = ((spec, of_slots), active, [*columns[0], *columns[1], *flat])
        if self._checked is None or not self._checked.holds(*found):
            _check(tx, params, grads, state)
            self._checked = CheckedTrees.of(params, slots, *found)
        tx.check_extra(extra)
        memory = state.memory
        if active:
            if not tx.takes_examples():
                columns[1] = list(map(shards.placed_as, columns[1], columns[0]))
            inputs = self._checked.inputs(tx, columns, step, memory, extra)
            memory = tx.memory_after(self._engine.step(inputs))[0]
            for i in active:
                ps[i] = _donate(ps[i])
            flat = list(map(_donate, flat))
        _donate(state.step)
        return spec.unflatten(ps), State(step, memory, of_slots.unflatten(flat))


def _check(tx: PerTensor, params: Params, grads: Updates, state: State) -> None:
    """Raises the errors that `update` would raise."""
    who = type(tx).__name__
    checked_params(who, params)
    Leaves(who, tx.params_needed_by(), grads, state.slots, params)


def _donate(x: Any) -> Any:
    """A new tensor with the memory of `x`, which becomes `Donated` if it is a plain tensor."""
    if type(x) is not Tensor:
        return x
    new = x.detach()
    if x.requires_grad:
        new.requires_grad_()
    x.__class__ = Donated
    return new


def _is_transformed(params: Params) -> bool:
    """Whether `torch.func` or a dispatch mode follows every operation."""
    first = next(iter(tree.leaves(params)), None)
    return isinstance(first, Tensor) and is_traced(first)
