"""Transformations that work tensor by tensor: the pure form of rules and combinators."""

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from .. import tree
from .._numerics.scalars import at, has_schedule, moved, number
from ..errors import FuncoptError, StructureError
from ..typing import Memory, OptState, Params, Slots, Updates
from . import precision, pure
from .due import filled
from .leaves import Leaves, checked_params, warn_of_history
from .loss import PureLoss
from .names import names_of
from .ranks import NOBODY
from .record import unchecked
from .reduction import Reduce, reduce
from .stage import Bucket, Members, Node, State
from .transformation import GradientTransformation

T = TypeVar("T")


class PerTensor(GradientTransformation):
    """A transformation that works tensor by tensor; any number of them share one pass over memory.

    Rules are, and combinators of rules. A subclass defines its slots for one tensor (`init_slots`),
    its shared scalars (`init_memory`), the scalars of a step (`open`), and how it transforms a list
    of tensors with them (`run`). The pure form follows from these here; the torch optimizer and the
    engine elsewhere use the same methods.
    """

    def init(self, params: Params, *, capturable: bool = False) -> State:
        leaves, spec = checked_params(type(self).__name__, params)
        names = names_of(params)
        warn_of_history(type(self).__name__, names, leaves)
        self.check_names([(n, p) for n, p in zip(names, leaves, strict=True) if p is not None])
        slots = [
            () if p is None else self.init_slots(name, p)
            for name, p in zip(names, leaves, strict=True)
        ]
        like = precision.zero_like(leaves)
        clock = (torch.zeros((), dtype=torch.int64), self.init_memory(like))
        if capturable:
            clock = tree.map(lambda x: moved(x, like.device), clock)
        return State(*clock, spec.unflatten(slots))

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        new_updates, new_state, _ = self._update(updates, state, params, extra)
        return new_updates, new_state

    def update_and_ran(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, OptState, "dict[tuple[str, ...], Ran]"]:
        new_updates, new_state, node = self._update(updates, state, params, extra)
        return new_updates, new_state, self.nodes(node.copied(), (0,))

    def _update(
        self, updates: Updates, state: OptState, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Updates, State, Node]:
        if torch.compiler.is_compiling():
            return self._pass(updates, state, params, extra)
        try:
            made = None
            if pure.fused_update is not None and isinstance(state, State):
                made = pure.fused_update(self, updates, state, params, extra)
            return made or self._pass(updates, state, params, extra)
        except FuncoptError:
            raise
        except Exception as error:
            # Only now it is worth the time to find out whether the state is to blame.
            if self._is_state_for(state, updates if params is None else params):
                raise
            raise self._foreign(state) from error

    def _pass(
        self, updates: Updates, state: OptState, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Updates, State, Node]:
        if not isinstance(state, State):
            raise self._foreign(state)
        who, needs_params = type(self).__name__, self.params_needed_by()
        leaves = Leaves(
            who, needs_params, updates, state.slots, params, self.takes_examples(), self._filled
        )
        step = state.step + 1
        now = number(step)
        node = self.open([Bucket(self, now, now - 1, state.memory)], self._members(leaves, extra))
        us, slots = self.run(leaves.gs, leaves.slots, leaves.ps, node, reduce)
        new_updates, new_slots = leaves.lower(us, slots, self.exact_updates)
        return new_updates, State(step, self.memory_after(node)[0], new_slots), node

    def averaged(self, state: OptState, params: Params) -> Params:
        if torch.compiler.is_compiling():
            return self._averaged(state, params)
        try:
            return self._averaged(state, params)
        except FuncoptError:
            raise
        except Exception as error:
            if isinstance(state, State) and self._is_state_for(state, params):
                raise
            raise StructureError(
                f"`eval_params`: the state, of type `{type(state).__name__}`, was made by another "
                "transformation. The order is `eval_params(tx, state, params)`."
            ) from error

    def _averaged(self, state: Any, params: Params) -> Params:
        ps, spec = tree.flatten(params)
        each = zip(names_of(params), ps, spec.flatten_up_to(state.slots), strict=True)
        memory = state.memory
        return spec.unflatten(
            [p if p is None else self.eval_param(name, p, own, memory) for name, p, own in each]
        )

    def _filled(
        self, gs: list[Any], slots: list[Slots], ps: list[Any], names: Any
    ) -> tuple[list[Any], dict[int, Any]]:
        return filled(self, gs, slots, ps, names)

    def _foreign(self, state: OptState) -> StructureError:
        return StructureError(
            f"`{type(self).__name__}`: the state, of type `{type(state).__name__}`, was made by "
            "another transformation or for other parameters: call `init(params)` on this one. The "
            "order is `update(updates, state, params)`."
        )

    def _is_state_for(self, state: State, params: Params) -> bool:
        """Whether `state` has the structure and shapes of one that was made for `params`."""
        (given, spec), (expected, like) = map(tree.flatten, (state, self.init(params)))
        return spec == like and [x.shape for x in given] == [x.shape for x in expected]

    def _members(self, leaves: Leaves, extra: Mapping[str, Any]) -> Members:
        self.check_extra(extra)
        trees = {k: v for k, v in extra.items() if k in self.tensor_extra_names()}
        loss = None
        if leaves.has_params and "value_fn" in extra:
            loss = PureLoss(extra["value_fn"], extra.get("value"), leaves)
        return Members(
            bucket_of=[0] * len(leaves.gs),
            extra={k: v for k, v in extra.items() if k not in trees and k != "value_fn"},
            loss=loss,
            tensor_extra={k: leaves.lift(k, v) for k, v in trees.items()},
            names=leaves.names,
            keys=leaves.keys,
            tensors=leaves.tensors,
            ranks=NOBODY,
        )

    def is_per_tensor(self) -> bool:
        return True

    def hyperparam_values(self) -> dict[str, Any]:
        """The hyperparameters of this stage, without those of its children, by name."""
        return {name: getattr(self, name) for name in self.hyperparameters}

    def evaluated(self, count: Any) -> Self:
        """A copy whose schedules have their values after `count` updates."""
        for name in self.hyperparameters:  # of which nearly always none is a schedule
            value = getattr(self, name)
            if type(value) is not float and has_schedule(value):
                break
        else:
            return self
        values = {k: at(v, count) for k, v in self.hyperparam_values().items() if has_schedule(v)}
        made: Self = unchecked(self, values)
        return made

    metrics: ClassVar[tuple[str, ...]] = ()
    """The scalars of a step that an optimizer shows, such as a norm."""

    comes_last: ClassVar[bool] = False
    """It needs the final update, so no later stage may change the update."""

    is_outermost: ClassVar[bool] = False
    """It is about parameters as they are stored, so nothing may be around it."""

    exact_updates: ClassVar[bool] = False
    """Updates come out as they are computed, in at least float32, not in the gradient's dtype."""

    changes_updates: ClassVar[bool] = True
    """Whether updates come out otherwise than they went in."""

    nonnegative: ClassVar[frozenset[str]] = frozenset()
    """The slots of which no entry is negative: `quantized` has codes for such."""

    random: ClassVar[bool] = False
    tensor_extra: ClassVar[tuple[str, ...]] = ()
    optional_extra: ClassVar[tuple[str, ...]] = ()

    memory_per: ClassVar[Literal["clock", "tree"]] = "clock"
    """Whether a parameter that joins late has shared scalars of its own, or those of the others."""

    measures_tensors: ClassVar[bool] = False
    """It measures each tensor by itself, although what it is made of may be elementwise."""

    measures_tree: ClassVar[bool] = False
    """It sums over all tensors, although what it is made of may treat each by itself."""

    replayable: ClassVar[bool] = False
    """`run` has no side effects and no control flow that depends on values, and computes with no
    tensor that it makes of memory: scalars come from `node.scalars`.

    A trace of one step can then be replayed in the next, with other scalars.
    """

    follows_counts: ClassVar[bool] = False
    """`open`, `run` and `memory_after` make numbers of nothing but the fields, which are not
    written, of step counts and of memory. They may be called once, and what they do noted.
    """

    decides: ClassVar[bool] = False
    """Control flow of `run` depends on values, but only by `node.select`; it may change memory.

    A step is traced once for each way through these choices. In the others `run` goes the way, with
    stand-ins for tensors, on which only arithmetic may be done; `replayable` is not needed then.
    """

    defers: ClassVar[bool] = False
    """Whether an update may be due to a tensor that has no gradient now: see `owes`."""

    def owes(self, slots: Slots) -> Any:
        """Whether an update is to come that `slots`, its own ones, hold a part of: a bool or flag.

        Then a missing gradient counts as zero.
        """
        del slots
        return False

    def params_needed_by(self) -> str | None:
        """The name of the stage that cannot do without the parameters, if there is one."""
        return None

    def tensor_extra_names(self) -> frozenset[str]:
        """The extra arguments that are trees like the parameters."""
        return frozenset()

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        """Sees all parameters before the first is initialized; refuses what fits none of them."""

    @abstractmethod
    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        """The slots of the parameter `p`, whose name may not be known."""

    def init_memory(self, like: Tensor) -> Memory:
        """The shared scalars, like the 0-d tensor `like`; none by default."""
        del like
        return ()

    @abstractmethod
    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        """The scalars of this step."""

    @abstractmethod
    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        """Transforms a list of tensors. `reduce` is called for every reduction over all of them."""

    def memory_after(self, node: Node) -> list[Memory]:
        """The memory of every bucket after `run`."""
        return node.memory

    averages: ClassVar[bool] = False
    """Whether it keeps averaged weights, used for evaluation."""

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        """The value of the parameter to evaluate the model with: itself, or an average."""
        del name, slots, memory
        return p

    def nodes(self, node: Node, buckets: Sequence[int]) -> "dict[tuple[str, ...], Ran]":
        """The stages that have run, by path, in order; `buckets` are those of the rows."""
        return {(): Ran(self, node, buckets)}

    def counts(self, count: Any, memory: Memory) -> dict[tuple[str, ...], Any]:
        """The updates that each stage has made, which its schedules see, by its path."""
        del memory
        return {(): count}

    def slot_parts(self, slots: Slots, name: str | None, p: Tensor) -> list["Part"]:
        """The slots of `p`, split by the stage that each part belongs to, in order."""
        return [(self, slots)]

    def memory_parts(self, memory: Memory, name: str | None, p: Tensor) -> list["Part"]:
        """The memory that `p` depends on, split by the same stages in the same order."""
        return [(self, memory)]


def check_memory(cls: type[Any]) -> None:
    """Makes the `init_memory` that a class defines refuse shared scalars without names."""
    init = cls.__dict__.get("init_memory")
    if init is None:
        return

    @functools.wraps(init)
    def init_memory(self: Any, like: Tensor) -> Memory:
        memory: Memory = check_fields(f"{type(self).__name__}.init_memory", init(self, like))
        return memory

    cls.init_memory = init_memory


def check_fields(who: str, made: Any) -> Any:
    """Refuses slots or shared scalars without names, which checkpoints need.

    Raises:
        StructureError: If they are no named tuple, nor ``()``.
    """
    if not hasattr(made, "_fields") and not (isinstance(made, tuple) and not made):
        kind = "a plain tuple" if isinstance(made, tuple) else f"{type(made).__name__}"
        raise StructureError(
            f"`{who}` must return a named tuple of tensors, or (), got {kind}: its fields are the "
            "keys of a checkpoint. Declare a class, `class Mine(NamedTuple): mean: torch.Tensor`, "
            "and return `Mine(...)`."
        )
    return made


def below(key: str, found: Mapping[tuple[str, ...], T]) -> dict[tuple[str, ...], T]:
    """What was found in a child, by the paths from the parent."""
    return {(key, *path): value for path, value in found.items()}


class Ran(NamedTuple):
    """A stage that has run in an update."""

    stage: PerTensor
    node: Node
    buckets: Sequence[int]  # among those of the whole pass


Part = tuple[PerTensor, Any]
"""A stage, and the named tuple that is its own; ``()`` if it has none."""
