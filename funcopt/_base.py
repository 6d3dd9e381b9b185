"""The interface: a transformation of gradients, and the rule for one tensor that becomes one."""

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from . import _leaves, _pass, tree
from ._math import at, has_schedule, number
from ._pass import Bucket, Members, Node, Reduce, Scalars
from ._record import Record, unchecked
from ._typing import Memory, Params, Slots, State, Updates, is_hyperparameter
from .errors import ExtraArgumentError, FuncoptError, LeafError, StructureError


class GradientTransformation(Record, ABC):
    """Turns gradients into better updates; pure, immutable, composable.

    What is said of one tensor is better written as a `TensorRule`. Subclass this for what has to
    see a whole tree: declare the hyperparameters as fields, write `update`, and `init` if there is
    something to remember.
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ()
    """The fields annotated `Scalar`, or a tuple of it; found when the class is made."""

    chooses: ClassVar[bool] = False
    """It looks at names or kinds of parameters, so what becomes of one depends on them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hyperparameters = tuple(
            field.name for field in dataclasses.fields(cls) if is_hyperparameter(field.type)
        )

    def init(self, params: Params, *, capturable: bool = False) -> State:
        """Returns the state before the first step. Stateless unless overridden.

        Args:
            params: The parameters: a tree of floating-point or complex tensors.
            capturable: Keep the clock on the device of the parameters, for CUDA graphs.

        Raises:
            LeafError: If a leaf is no such tensor.
            TiedParametersError: If two leaves are the same memory.
        """
        del params, capturable
        return ()

    @abstractmethod
    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, State]:
        """Transforms `updates`; nothing that is passed in is changed.

        Args:
            updates: Gradients, or the output of the previous stage, in the structure of the
                parameters. Where it is `None`, nothing happens to the parameter and its slots.
            state: What `init` or the previous call returned.
            params: The current parameters. Some transformations need them, e.g. weight decay.
            **extra: What a stage asks for by name, e.g. ``value=loss``.

        Returns:
            The new updates, with the structure, shapes and dtypes of `updates`, and the new state,
            with those of `state`.

        Raises:
            StructureError: If the trees do not match.
            MissingParamsError: If a stage needs `params`.
            ExtraArgumentError: If no stage knows an extra argument, or one is missing.
            SparseGradientError: If a gradient is sparse.
        """

    def extra_names(self) -> frozenset[str] | None:
        """The extra arguments that `update` knows; `None` if it takes any."""
        return None

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """Refuses extra arguments of `update` that nobody would read."""
        known = self.extra_names() if extra else None
        if known is not None and not known.issuperset(extra):
            raise ExtraArgumentError(
                f"`{type(self).__name__}`: no stage knows the extra arguments "
                f"{sorted(set(extra) - known)}; known here are {sorted(known)}."
            )

    def is_per_tensor(self) -> bool:
        """Whether it works tensor by tensor, and so can share a pass with others that do."""
        return False

    def sign(self) -> int | None:
        """Whether updates point uphill (1), as gradients do, or downhill (-1), if that is known."""
        return None

    def children(self) -> dict[str, "GradientTransformation"]:
        """The transformations that this one is made of, by their place in it."""
        return {}

    def with_children(self, children: Mapping[str, "GradientTransformation"]) -> Self:
        """A copy that is made of `children` instead."""
        del children
        return self

    def children_of(self, name: str | None, p: Tensor) -> dict[str, "GradientTransformation"]:
        """Those of the children that may have to do with the parameter `p`."""
        del name, p
        return self.children()


class PerTensor(GradientTransformation):
    """A transformation that works tensor by tensor; any number of them share one pass over memory.

    Rules are, and combinators of rules. A subclass says what it keeps for one tensor (`init_slots`)
    and besides (`init_memory`), which numbers it needs in this step (`open`), and how it transforms
    a list of tensors with them (`run`). The pure form follows from these here; so do the torch
    optimizer and the fused engine, elsewhere.
    """

    def init(self, params: Params, *, capturable: bool = False) -> _pass.State:
        leaves, spec = _leaves.checked_params(type(self).__name__, params)
        names = tree.names(params)
        self.check_names([(n, p) for n, p in zip(names, leaves, strict=True) if p is not None])
        slots = [
            () if p is None else self.init_slots(name, p)
            for name, p in zip(names, leaves, strict=True)
        ]
        like = _leaves.like(leaves)
        clock = (torch.zeros((), dtype=torch.int64), self.init_memory(like))
        if capturable:
            clock = tree.map(lambda x: x.to(like.device), clock)
        return _pass.State(*clock, spec.unflatten(slots))

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, _pass.State]:
        if torch.compiler.is_compiling():
            return self._update(updates, state, params, extra)
        try:
            return self._update(updates, state, params, extra)
        except FuncoptError:
            raise
        except Exception as error:
            # Only then it is worth the time to find out whether the state is to blame.
            if self._fits(state, updates if params is None else params):
                raise
            raise self._foreign(state) from error

    def _update(
        self, updates: Updates, state: State, params: Params | None, extra: Mapping[str, Any]
    ) -> tuple[Updates, _pass.State]:
        if not isinstance(state, _pass.State):
            raise self._foreign(state)
        who, needs_params = type(self).__name__, self.params_needed_by()
        leaves = _leaves.Leaves(who, needs_params, updates, state.slots, params)
        step = state.step + 1
        now = number(step)
        node = self.open([Bucket(self, now, now - 1, state.memory)], self._members(leaves, extra))
        us, slots = self.run(leaves.gs, leaves.slots, leaves.ps, node, _pass.reduce)
        new_updates, new_slots = leaves.lower(us, slots)
        return new_updates, _pass.State(step, self.memory_after(node)[0], new_slots)

    def _foreign(self, state: State) -> StructureError:
        return StructureError(
            f"`{type(self).__name__}`: the state, of type `{type(state).__name__}`, was made by "
            "another transformation or for other parameters: call `init(params)` on this one. The "
            "order is `update(updates, state, params)`."
        )

    def _fits(self, state: _pass.State, params: Params) -> bool:
        """Whether `state` has the form of one that was made for `params`."""
        forms = [
            list(zip(tree.names(x), (y.shape for y in tree.leaves(x)), strict=False))
            for x in (state, self.init(params))
        ]
        return forms[0] == forms[1]

    def _members(self, leaves: _leaves.Leaves, extra: Mapping[str, Any]) -> Members:
        self.check_extra(extra)
        trees = {k: v for k, v in extra.items() if k in self.tensor_extra_names()}
        return Members(
            which=[0] * len(leaves.gs),
            extra={k: v for k, v in extra.items() if k not in trees},
            tensor_extra={k: leaves.lift(k, v) for k, v in trees.items()},
            names=leaves.names,
            tensors=leaves.tensors,
        )

    def is_per_tensor(self) -> bool:
        return True

    metrics: ClassVar[tuple[str, ...]] = ()
    """The scalars of a step that an optimizer shows, such as a norm."""

    comes_last: ClassVar[bool] = False
    """It looks at the step about to be made, so nothing may change the update after it."""

    changes_updates: ClassVar[bool] = True
    """Whether updates come out otherwise than they went in."""

    memory_per: ClassVar[Literal["clock", "tree"]] = "clock"
    """Whether a parameter that joins late has a memory of its own, or shares that of the others."""

    def params_needed_by(self) -> str | None:
        """The name of the stage that cannot do without the parameters, if there is one."""
        return None

    def tensor_extra_names(self) -> frozenset[str]:
        """The extra arguments that are trees like the parameters."""
        return frozenset()

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        """Sees all parameters before the first is initialised; refuses what fits none of them."""

    @abstractmethod
    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        """What is remembered of the parameter `p`, whose name may not be known."""

    def init_memory(self, like: Tensor) -> Memory:
        """Scalars remembered from step to step, like the 0-d tensor `like`; none by default."""
        del like
        return ()

    @abstractmethod
    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        """The numbers of this step."""

    @abstractmethod
    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        """Transforms a list of tensors. `reduce` is called where something is summed over all."""

    def memory_after(self, node: Node) -> list[Memory]:
        """The memory of every bucket after `run`."""
        return node.memory

    def eval_param(self, name: str | None, p: Tensor, slots: Slots) -> Tensor:
        """The value of the parameter to evaluate the model with: itself, or an average."""
        del name, slots
        return p

    def nodes(self, node: Node) -> list[tuple["PerTensor", Node]]:
        """The stages that have run, each with its node, in order."""
        return [(self, node)]

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


def below(key: str, counts: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    """The counts of a child, by their paths from the parent."""
    return {(key, *path): count for path, count in counts.items()}


Part = tuple[PerTensor, Any]
"""A stage, and the named tuple that is its own; ``()`` if it has none."""


class TensorRule(PerTensor):
    """The mathematics of one tensor, written once; this class lifts it to trees.

    Most rules write `update_tensor`, and `init_tensor` if they remember something:

        >>> class Momentum(NamedTuple):
        ...     momentum_buffer: torch.Tensor
        >>> class signum(TensorRule):
        ...     '''The sign of the mean gradient. Bernstein et al., 2018.'''
        ...     momentum: Scalar = 0.9
        ...     elementwise = True
        ...     def init_tensor(self, p):
        ...         return Momentum(torch.zeros_like(p))
        ...     def update_tensor(self, g, slots, p, s):
        ...         mean = torch.lerp(g, slots.momentum_buffer, s.momentum)
        ...         return mean.sign(), Momentum(mean)
        >>> chain(signum(), scale_by_learning_rate(1e-4))
        chain(signum(), scale_by_learning_rate(0.0001))

    What a rule sees: `g`, `p` and the slots of one tensor in one dtype, at least float32; 0-d
    tensors as length 1; complex ones as two reals. `s` has the fields annotated `Scalar`, with
    schedules evaluated, and whatever `prepare` and `conclude` return. `update_tensor` and
    `measure_tensor` read numbers from `s` only; from `self` they read structure, that is fields of
    other types.
    """

    elementwise: ClassVar[bool] = False
    """Entries of the update do not see one another, except through a measure."""

    needs_params: ClassVar[bool] = False
    """`p` is used; without it, it may be `None`."""

    combine: ClassVar[Literal["sum", "max", "min"]] = "sum"
    """How the measures of several tensors become one."""

    measure_per: ClassVar[Literal["tree", "tensor"]] = "tree"
    """Whether `conclude` gets one total for all tensors, or each tensor's own."""

    tensor_extra: ClassVar[tuple[str, ...]] = ()
    """Extra arguments of `update` that are trees like the parameters; `s` has this tensor's."""

    extra: ClassVar[frozenset[str]] = frozenset()
    required_extra: ClassVar[frozenset[str]] = frozenset()
    measures: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        arguments = inspect.signature(cls.conclude).parameters.values()
        asked = [a for a in arguments if a.kind is a.KEYWORD_ONLY]
        cls.extra = frozenset(a.name for a in asked).union(cls.tensor_extra)
        cls.required_extra = frozenset(a.name for a in asked if a.default is a.empty).union(
            cls.tensor_extra
        )
        cls.measures = cls.measure_tensor is not TensorRule.measure_tensor

    def init_tensor(self, p: Tensor) -> Slots:
        """What is remembered of one tensor: a named tuple of tensors, ``()`` for none."""
        del p
        return ()

    def prepare(self, step: Any, memory: Memory) -> Mapping[str, Any]:
        """Scalars of this step, such as bias corrections; `step` is 1 at the first update.

        `self` has its schedules evaluated. Numbers are Python's, in float64, or 0-d tensors.
        """
        del step, memory
        return {}

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Any:
        """What to add up over tensors: a 0-d tensor, or a named tuple of them."""
        raise NotImplementedError

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[Mapping[str, Any], Memory]:
        """Further scalars, such as a clip factor, and the new memory.

        `total` is what was measured, or `None`. Keyword-only arguments declare what is taken from
        the extra arguments of `update`.
        """
        del s, total
        return {}, memory

    @abstractmethod
    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        """The update of one tensor and its new slots, none of them a tensor that was passed in."""

    def eval_tensor(self, p: Tensor, slots: Slots) -> Tensor:
        """The value of `p` to evaluate the model with, where it is not `p` itself."""
        del slots
        return p

    # The lift: authors need not read on.

    def extra_names(self) -> frozenset[str] | None:
        return self.extra

    def tensor_extra_names(self) -> frozenset[str]:
        return frozenset(self.tensor_extra)

    def sign(self) -> int | None:
        return 1

    def eval_param(self, name: str | None, p: Tensor, slots: Slots) -> Tensor:
        return self.eval_tensor(p, slots)

    def params_needed_by(self) -> str | None:
        return type(self).__name__ if self.needs_params else None

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        if not p.is_complex():
            return self._checked(self.init_tensor(p))
        if not self.elementwise:
            raise LeafError(
                f"`{type(self).__name__}`: parameter `{name}` of shape {tuple(p.shape)} must not "
                "be complex, since its entries see one another. Split it with "
                "`torch.view_as_real`."
            )
        return _leaves.init_complex(self.init_tensor, p)

    def _checked(self, slots: Slots) -> Slots:
        if slots != () and not hasattr(slots, "_fields"):
            raise StructureError(
                f"`{type(self).__name__}.init_tensor` must return a named tuple of tensors, or (), "
                f"got {type(slots).__name__}."
            )
        return slots

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules = [bucket.tx._evaluated(bucket.count) for bucket in buckets]
        rows = [
            {**rule._numbers(), **rule.prepare(bucket.step, bucket.memory)}
            for rule, bucket in zip(rules, buckets, strict=True)
        ]
        node = Node(rules, rows, [bucket.memory for bucket in buckets], members)
        if not self.measures:
            node.conclude(None)
        return node

    def run(
        self,
        gs: list[Tensor],
        slots: list[Slots],
        ps: list[Tensor],
        node: Node,
        reduce: Reduce,
    ) -> tuple[list[Tensor], list[Slots]]:
        if self.measures:
            each = zip(gs, slots, ps, node.scalars(gs), strict=True)
            reduce(node, [self.measure_tensor(*one) for one in each])
        shards = node.members.tensors
        if not self.elementwise:
            gs, slots, ps = _leaves.gathered(gs, slots, ps, shards)
        each = zip(gs, slots, ps, node.scalars(gs), strict=True)
        out = [self.update_tensor(*one) for one in each]
        if out and not (isinstance(out[0], tuple) and len(out[0]) == 2):
            raise StructureError(
                f"`{type(self).__name__}.update_tensor` must return the update and the slots, got "
                f"{type(out[0]).__name__}."
            )
        us, new = [u for u, _ in out], [own for _, own in out]
        return (us, new) if self.elementwise else _leaves.scattered(us, new, shards)

    def _numbers(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.hyperparameters}

    def _evaluated(self, count: Any) -> Self:
        """A copy whose schedules have their values after `count` updates."""
        values = {k: at(v, count) for k, v in self._numbers().items() if has_schedule(v)}
        return unchecked(self, values) if values else self
