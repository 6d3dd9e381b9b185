"""The pure form without copies: what goes in is used up, and its memory is what comes out."""

from typing import Any, NamedTuple, Never

import torch
from torch import Tensor

from .. import tree
from .._core import precision
from .._core.apply import apply_updates, apply_updates_
from .._core.stage import Bucket
from .._core.stage import State as RuleState
from .._core.tensor_rule import GradientTransformation, PerTensor
from .._numerics.scalars import is_traced, number
from ..errors import DonatedError, HyperparameterError, StructureError
from ..typing import Params, State, Updates
from ._engine import Engine, How
from ._step import StepInputs
from ._tensor_guard import TensorGuard


class Donated(Tensor):
    """A tensor whose memory is another's now."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Never:
        raise DonatedError(
            "this tensor was donated to a step, and its memory belongs to what the step returned: "
            "write `params, state = step(params, grads, state)`, and clone what is needed later."
        )


class donated:
    """One step of `tx` in place: ``params, state = step(params, grads, state)``.

        step = donated(adamw(1e-3))
        state = tx.init(params)
        for batch in data:
            params, state = step(params, grad(loss)(params, batch), state)

    The numbers are those of `update` and `apply_updates`, but no memory is taken: `params` and
    `state` are used up, and what is returned lies where they lay, as with JAX's donated arguments.
    To use one of those tensors afterwards is an error. Gradients are only read. A `Parameter` of a
    module cannot be used up: it is returned as it is, changed.

    It is no function to differentiate through or to map over; while `torch.func` or
    `torch.compile` look on, it is `update` and `apply_updates`, and nothing is used up.

    Args:
        tx: The transformation.
        engine: As for `Optimizer`.

    Raises:
        DonatedError: If a tensor that is used up is used again.
        StructureError: If the trees do not match; nothing is changed.
        HyperparameterError: If `tx` is no transformation.
    """

    def __init__(self, tx: GradientTransformation, *, engine: How = "auto") -> None:
        if not isinstance(tx, GradientTransformation):
            raise HyperparameterError(f"`donated`: expected a transformation, got {tx!r}.")
        self.tx = tx
        self._engine = Engine(engine)
        self._known: _Known | None = None

    @property
    def engine(self) -> str:
        """What has made the last step: "fused", "foreach", "torch" or "eager"."""
        return self._engine.name

    def __repr__(self) -> str:
        return f"donated({self.tx!r})"

    def __call__(
        self, params: Params, grads: Updates, state: State, **extra: Any
    ) -> tuple[Params, State]:
        if torch.compiler.is_compiling() or _watched(params):
            updates, state = self.tx.update(grads, state, params, **extra)
            return apply_updates(params, updates), state
        with torch.no_grad():
            tx = self.tx
            if isinstance(tx, PerTensor) and tx.is_per_tensor() and "value_fn" not in extra:
                return self._in_place(tx, params, grads, state, extra)
            # What sees whole trees, or evaluates the loss again, makes a state of its own.
            updates, state = self.tx.update(grads, state, params, **extra)
            apply_updates_(params, updates)
            return tree.map(_handed_on, params), state

    def _in_place(
        self, tx: PerTensor, params: Params, grads: Updates, state: Any, extra: dict[str, Any]
    ) -> tuple[Params, State]:
        ps, spec = tree.flatten(params)
        if not isinstance(state, RuleState):
            raise StructureError(
                f"`donated`: the state, of type `{type(state).__name__}`, is not one of "
                f"`{type(tx).__name__}`. The order is `step(params, grads, state)`."
            )
        gs, slots = spec.flatten_up_to(grads), spec.flatten_up_to(state.slots)
        flat, of_slots = tree.flatten(state.slots)
        step = state.step + 1
        active = [i for i, g in enumerate(gs) if g is not None]
        tensors = [*(ps[i] for i in active), *(gs[i] for i in active), *flat]
        known = self._known
        if known is None or not known.fits((spec, of_slots), active, tensors):
            known = self._known = self._looked_at(tx, params, grads, state, active, tensors)
        tx.check_extra(extra)
        memory = state.memory
        if active:
            columns = [[x[i] for i in active] for x in (ps, gs, slots)]
            inputs = self._step_inputs(tx, columns, step, memory, extra, known)
            memory = tx.memory_after(self._engine.step(inputs))[0]
            for i in active:
                ps[i] = _handed_on(ps[i])
            flat = list(map(_handed_on, flat))
        _handed_on(state.step)
        return spec.unflatten(ps), RuleState(step, memory, of_slots.unflatten(flat))

    def _step_inputs(
        self,
        tx: PerTensor,
        columns: list[list[Any]],
        step: Tensor,
        memory: Any,
        extra: dict[str, Any],
        known: "_Known",
    ) -> StepInputs:
        (ps, gs, slots), now = columns, number(step)
        spec, active = known.specs[0], known.active
        trees = {k: spec.flatten_up_to(v) for k, v in extra.items() if k in known.shaped}
        return StepInputs(
            tx=tx,
            buckets=[Bucket(tx, now, now - 1, memory)],
            bucket_of=[0] * len(active),
            ps=ps,
            gs=gs,
            slots=slots,
            negate=[False] * len(active),
            names=lambda: known.names,
            keys=lambda: known.names,
            extra={k: v for k, v in extra.items() if k not in trees},
            tensor_extra={k: [column[i] for i in active] for k, column in trees.items()},
            metadata_key=known,
            process_group=None,
        )

    def _looked_at(
        self,
        tx: PerTensor,
        params: Params,
        grads: Updates,
        state: RuleState,
        active: list[int],
        tensors: list[Any],
    ) -> "_Known":
        """Refuses what `update` would refuse."""
        who = type(tx).__name__
        precision.checked_params(who, params)
        precision.Leaves(who, tx.params_needed_by(), grads, state.slots, params)
        names, specs = tree.names(params), (tree.flatten(params)[1], tree.flatten(state.slots)[1])
        return _Known(
            specs, active, TensorGuard(tensors), [names[i] for i in active], tx.tensor_extra_names()
        )


class _Known(NamedTuple):
    """What has been found out of trees of one form."""

    specs: tuple[tree.Spec, tree.Spec]  # of parameters and slots
    active: list[int]  # those with a gradient
    guard: TensorGuard
    names: list[str]
    shaped: frozenset[str]

    def fits(
        self, specs: tuple[tree.Spec, tree.Spec], active: list[int], tensors: list[Any]
    ) -> bool:
        return self.specs == specs and self.active == active and self.guard.holds(tensors)


def _handed_on(x: Any) -> Any:
    """The same memory as another tensor; `x` is used up, if it is nothing more than a tensor."""
    if type(x) is not Tensor:
        return x
    new = x.detach()
    if x.requires_grad:
        new.requires_grad_()
    x.__class__ = Donated
    return new


def _watched(params: Params) -> bool:
    """Whether somebody watches every operation, and so must see them."""
    first = next(iter(tree.leaves(params)), None)
    return isinstance(first, Tensor) and is_traced(first)
