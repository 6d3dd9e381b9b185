"""The pure form without copies: its arguments are donated, and the results lie in their memory."""

from typing import Any, NamedTuple, Never

import torch
from torch import Tensor

from .. import tree
from .._core.apply import apply_updates, apply_updates_
from .._core.due import filled
from .._core.leaves import Leaves, checked_params
from .._core.names import names_of
from .._core.ranks import Ranks
from .._core.stage import Bucket, State
from .._core.tensor_rule import GradientTransformation, PerTensor
from .._numerics import shards
from .._numerics.names import plain_names
from .._numerics.scalars import is_traced, number
from ..errors import DonatedError, HyperparameterError, StructureError
from ..typing import OptState, Params, Tree, Updates
from ._engine import Engine
from ._options import EngineOption, updates_made_by
from ._step import StepInputs
from ._tensor_guard import TensorGuard


class Donated(Tensor):
    """A tensor that was donated: its memory belongs to another one now."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Never:
        raise DonatedError(
            "this tensor was donated to a step, and its memory belongs to what the step returned: "
            "write `params, state = step(params, grads, state)`, and clone what is needed later."
        )


class donated:
    """One step of `tx` in place: ``params, state = step(params, grads, state)``.

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
            raise HyperparameterError(f"`donated`: expected a transformation, got {tx!r}.")
        self.tx = tx
        self._engine = Engine(engine, "donated")
        self._checked: _CheckedTrees | None = None

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
        tensors = [*(ps[i] for i in active), *(gs[i] for i in active), *flat]
        checked = self._checked
        if checked is None or not checked.holds((spec, of_slots), active, tensors):
            checked = self._checked = self._check(tx, params, grads, state, active, tensors)
        tx.check_extra(extra)
        memory = state.memory
        if active:
            columns = [[x[i] for i in active] for x in (ps, gs, slots)]
            inputs = self._step_inputs(tx, columns, step, memory, extra, checked)
            memory = tx.memory_after(self._engine.step(inputs))[0]
            for i in active:
                ps[i] = _donate(ps[i])
            flat = list(map(_donate, flat))
        _donate(state.step)
        return spec.unflatten(ps), State(step, memory, of_slots.unflatten(flat))

    def _step_inputs(
        self,
        tx: PerTensor,
        columns: list[list[Any]],
        step: Tensor,
        memory: Any,
        extra: dict[str, Any],
        checked: "_CheckedTrees",
    ) -> StepInputs:
        (ps, gs, slots), now = columns, number(step)
        spec, active = checked.specs[0], checked.active
        trees = {k: spec.flatten_up_to(v) for k, v in extra.items() if k in checked.tensor_extra}
        return StepInputs(
            tx=tx,
            buckets=[Bucket(tx, now, now - 1, memory)],
            bucket_of=[0] * len(active),
            ps=ps,
            gs=gs if tx.takes_examples() else list(map(shards.placed_as, gs, ps)),
            slots=slots,
            negate=[False] * len(active),
            names=lambda: checked.names,
            keys=lambda: checked.keys,
            extra={k: v for k, v in extra.items() if k not in trees},
            tensor_extra={k: [column[i] for i in active] for k, column in trees.items()},
            metadata_key=checked,
            ranks=checked.ranks,
        )

    def _check(
        self,
        tx: PerTensor,
        params: Params,
        grads: Updates,
        state: State,
        active: list[int],
        tensors: list[Any],
    ) -> "_CheckedTrees":
        """Raises the errors that `update` would raise."""
        who = type(tx).__name__
        checked_params(who, params)
        Leaves(who, tx.params_needed_by(), grads, state.slots, params)
        specs = (tree.flatten(params)[1], tree.flatten(state.slots)[1])
        names, keys = names_of(params), plain_names(tree.names(params))
        return _CheckedTrees(
            specs,
            active,
            TensorGuard(tensors),
            [names[i] for i in active],
            [keys[i] for i in active],
            tx.tensor_extra_names(),
            Ranks(()),
        )


class _CheckedTrees(NamedTuple):
    """Trees that have been checked: those of the same structure and metadata need not be."""

    specs: tuple[tree.Spec[Any], tree.Spec[Any]]  # of parameters and slots
    active: list[int]  # those with a gradient
    guard: TensorGuard
    names: list[str]
    keys: list[str]
    tensor_extra: frozenset[str]  # the names of extra arguments that are trees like the parameters
    ranks: Ranks

    def holds(
        self, specs: tuple[tree.Spec[Any], tree.Spec[Any]], active: list[int], tensors: list[Any]
    ) -> bool:
        """Whether these trees have the same structure and metadata."""
        return self.specs == specs and self.active == active and self.guard.holds(tensors)


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
