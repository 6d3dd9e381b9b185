"""Chains: transformations that are applied one after another."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core.average import averages_in
from .._core.compact import in_message
from .._core.names import names_of
from .._core.record import call_repr, unchecked
from .._core.reduction import Reduce
from .._core.stage import Bucket, Members, Node
from .._core.tensor_rule import GradientTransformation, Part, PerTensor, Ran, below
from .._hints.calls import listed
from ..errors import ArgumentError, HyperparameterError, StructureError
from ..typing import Memory, OptState, Params, Slots, Updates
from ._inner import check_parts, refuse_outermost
from ._order import changes_updates, comes_last, refuse_before_first, which_comes_last


class chain(PerTensor):
    """Applies `stages` from left to right.

    A chain of chains is one chain, and a chain of nothing is the identity:

        chain(a, chain(b, c)) == chain(chain(a, b), c) == chain(a, b, c)

    The state has one step count, and one entry per stage in its memory and in the slots of each
    tensor. Gradients are widened once before the first stage and narrowed once after the last. A
    chain with a stage that takes whole trees, such as `from_functions`, has instead the tuple of
    the stages' states.

    Raises:
        HyperparameterError: If a stage is not a transformation.
    """

    replayable = True
    follows_counts = True
    stages: tuple[GradientTransformation, ...]

    def __init__(self, *stages: GradientTransformation) -> None:
        flat: list[GradientTransformation] = []
        for stage in stages:
            if not isinstance(stage, GradientTransformation):
                raise HyperparameterError(
                    f"`chain`: expected gradient transformations, got {_hint(stage)}"
                )
            flat.extend(stage.stages if isinstance(stage, chain) else (stage,))
        last = None
        for stage in flat:
            if last is not None and changes_updates(stage):
                raise HyperparameterError(
                    f"`chain`: `{last}` needs the final update, and has to come after every stage "
                    f"that changes updates, as {stage!r} does."
                )
            last = which_comes_last(stage) or last
        if late := [stage for stage in flat[1:] if stage.takes_examples()]:
            raise HyperparameterError(
                f"`chain`: {late[0]!r} takes one gradient for each example, and has to come first: "
                "a stage before it would take the examples for a dimension of the parameters."
            )
        refuse_before_first(flat)
        refuse_outermost(self, flat)
        object.__setattr__(self, "stages", tuple(flat))

    def init(self, params: Params, *, capturable: bool = False) -> OptState:
        if self.is_per_tensor():
            return super().init(params, capturable=capturable)
        return tuple(stage.init(params, capturable=capturable) for stage in self.stages)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState]:
        if self.is_per_tensor():
            return super().update(updates, state, params, **extra)
        updates, new_state, _ = self.update_and_ran(updates, state, params, **extra)
        return updates, new_state

    def update_and_ran(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState, dict[tuple[str, ...], Ran]]:
        if self.is_per_tensor():
            return super().update_and_ran(updates, state, params, **extra)
        self._check_state(state)
        self.check_extra(extra)
        new_state: list[OptState] = []
        ran: dict[tuple[str, ...], Ran] = {}
        for i, (stage, old) in enumerate(zip(self.stages, state, strict=True)):
            known = stage.extra_names()
            mine = {k: v for k, v in extra.items() if known is None or k in known}
            updates, new, inside = stage.update_and_ran(updates, old, params, **mine)
            new_state.append(new)
            ran.update(below(str(i), inside))
        return updates, tuple(new_state), ran

    def _check_state(self, state: OptState) -> None:
        if not isinstance(state, tuple) or len(state) != len(self.stages):
            raise StructureError(
                f"`chain` of {len(self.stages)} stages got a state that is not a tuple of as many, "
                "made by another transformation: call `init(params)` on this one."
            )

    def averaged(self, state: OptState, params: Params) -> Params:
        if self.is_per_tensor():
            return super().averaged(state, params)
        self._check_state(state)
        ps, spec = tree.flatten(params)
        columns = [
            spec.flatten_up_to(stage.averaged(own, params))
            for stage, own in zip(self.stages, state, strict=True)
        ]
        names = names_of(params)
        rows = zip(names, ps, *columns, strict=True) if columns else zip(names, ps, strict=True)
        return spec.unflatten([self._only_average(name, p, made) for name, p, *made in rows])

    def _only_average(self, name: str | None, p: Any, made: Sequence[Any]) -> Any:
        """The averaged value of a parameter, if a stage keeps one, else `p`."""
        found = [(stage, x) for stage, x in zip(self.stages, made, strict=True) if x is not p]
        if len(found) > 1:
            names = [each for stage, _ in found for each in averages_in(stage)]
            raise StructureError(
                f"`chain`: several stages keep an average of parameter `{name}`, "
                f"{', '.join(repr(stage) for stage, _ in found)}, and it is not known which one to "
                f"evaluate with: say `which`, of {names}. Stages of one class need names, as "
                '`ema_of_params(decay, name="slow")`.'
            )
        return found[0][1] if found else p

    def is_per_tensor(self) -> bool:
        return all(stage.is_per_tensor() for stage in self.stages)

    def extra_names(self) -> frozenset[str] | None:
        names = [stage.extra_names() for stage in self.stages]
        if any(known is None for known in names):
            return None
        return frozenset().union(*(known for known in names if known is not None))

    def takes_examples(self) -> bool:
        return len(self.stages) > 0 and self.stages[0].takes_examples()

    def sign(self) -> int | None:
        product = 1
        for stage in self.stages:
            sign = stage.sign()
            if sign is None:
                return None
            product *= sign
        return product

    def children(self) -> dict[str, GradientTransformation]:
        return {str(i): stage for i, stage in enumerate(self.stages)}

    def with_children(self, children: Mapping[str, GradientTransformation]) -> "chain":
        return chain(*children.values())

    def with_child(self, place: str, child: GradientTransformation) -> "chain":
        at = int(place)  # what was found of the others holds: it does not depend on numbers
        stages = (*self.stages[:at], child, *self.stages[at + 1 :])
        made: chain = unchecked(self, {"stages": stages})
        return made

    def replace(self, **changes: Any) -> "chain":
        stages = changes.pop("stages", self.stages)
        if changes:
            unknown, names = "s" * (len(changes) > 1), sorted(changes)
            raise ArgumentError(
                f"`chain`: unknown argument{unknown} {listed(names)}. A chain has no fields but "
                f"its `stages`: `with_hyperparams(tx, {names[0]}=...)` sets their hyperparameters."
            )
        return chain(*stages)

    def __repr__(self) -> str:
        return call_repr("chain", [repr(stage) for stage in self.stages])

    # As one pass: each stage in turn, on the same list of tensors.

    @property
    def comes_last(self) -> bool:  # type: ignore[override]
        return any(map(comes_last, self.stages))

    @property
    def changes_updates(self) -> bool:  # type: ignore[override]
        return any(map(changes_updates, self.stages))

    @property
    def _rules(self) -> tuple[PerTensor, ...]:
        return self.stages  # type: ignore[return-value]  # where is_per_tensor() holds

    def params_needed_by(self) -> str | None:
        return next(filter(None, (stage.params_needed_by() for stage in self._rules)), None)

    def tensor_extra_names(self) -> frozenset[str]:
        return frozenset().union(*(stage.tensor_extra_names() for stage in self._rules))

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        for stage in self._rules:
            stage.check_names(params)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        return tuple(stage.init_slots(name, p) for stage in self._rules)

    def init_memory(self, like: Tensor) -> Memory:
        return tuple(stage.init_memory(like) for stage in self._rules)

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        children = []
        for b in buckets:
            check_parts(self, "stage", len(self.stages), b.memory)
        for i, stage in enumerate(self._rules):
            mine = [Bucket(b.tx.stages[i], b.step, b.count, b.memory[i]) for b in buckets]
            children.append(stage.open(mine, members))
        return Node([], [], [() for _ in buckets], members, children)

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        columns = []
        for i, (stage, child) in enumerate(zip(self._rules, node.children, strict=True)):
            gs, column = stage.run(gs, [own[i] for own in slots], ps, child, reduce)
            columns.append(column)
        rows = zip(*columns, strict=True) if columns else [()] * len(gs)
        return gs, list(rows)

    def memory_after(self, node: Node) -> list[Memory]:
        columns = [
            s.memory_after(child) for s, child in zip(self._rules, node.children, strict=True)
        ]
        return list(zip(*columns, strict=True)) if columns else node.memory

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        found: dict[tuple[str, ...], Any] = {}
        for i, (stage, own) in enumerate(zip(self._rules, memory, strict=True)):
            found.update(below(str(i), stage.counts(count, own)))
        return found

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list[Part]:
        each = zip(self._rules, slots, strict=True)
        return [part for stage, own in each for part in stage.slot_parts(own, name, p)]

    def memory_parts(self, memory: Memory, name: str | None, p: Tensor) -> list[Part]:
        each = zip(self._rules, memory, strict=True)
        return [part for stage, own in each for part in stage.memory_parts(own, name, p)]

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        each = zip(self._rules, slots, memory, strict=True)
        made = [stage.eval_param(name, p, own, remembered) for stage, own, remembered in each]
        value: Tensor = self._only_average(name, p, made)
        return value

    def nodes(self, node: Node, buckets: Sequence[int]) -> dict[tuple[str, ...], Ran]:
        found: dict[tuple[str, ...], Ran] = {}
        for i, (stage, child) in enumerate(zip(self._rules, node.children, strict=True)):
            found.update(below(str(i), stage.nodes(child, buckets)))
        return found


def _hint(stage: Any) -> str:
    """What `stage` is, and what was probably meant."""
    if isinstance(stage, type) and issubclass(stage, GradientTransformation):
        return f"the class `{stage.__name__}`: call it, with its hyperparameters."
    if isinstance(stage, list):
        return "a list: write `chain(*stages)`."
    if callable(stage) and hasattr(stage, "__name__"):
        return f"the function `{stage.__name__}`: call it, if it makes one, as in `adamw(1e-3)`."
    if isinstance(stage, torch.optim.Optimizer):
        return (
            f"the optimizer `{type(stage).__name__}`: a chain takes transformations, such as "
            "`adamw(1e-3)`."
        )
    return (
        f"{in_message(stage)}. A pair of functions becomes one with `from_functions(init, update)`."
    )
