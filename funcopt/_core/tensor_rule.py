"""The interface for authors: a rule for one tensor, which becomes a transformation of trees."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from .. import tree
from .._numerics import shards
from .._numerics.scalars import NO_FLOAT64, moved, near
from ..errors import ArgumentError, LeafError, StructureError
from ..typing import Memory, Slots
from . import precision
from .per_tensor import Part as Part
from .per_tensor import PerTensor as PerTensor
from .per_tensor import Ran as Ran
from .per_tensor import below as below
from .per_tensor import check_fields, check_memory
from .preparing import prepared
from .record import unchecked
from .reduction import Reduce
from .stage import Bucket, Members, Node, Scalars
from .transformation import GradientTransformation as GradientTransformation
from .transformation import NamedParams as NamedParams


class TensorRule(PerTensor):
    """The mathematics of one tensor, written once; this class lifts it to trees.

    Most rules write `update_tensor`, and `init_tensor` if they have slots:

        >>> class Momentum(NamedTuple):
        ...     momentum_buffer: torch.Tensor
        >>> class signum(TensorRule):
        ...     '''The sign of the momentum. Bernstein et al., 2018.'''
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
    schedules evaluated, and whatever `prepare` and `conclude` return. The methods of tensors read
    scalars from `s` only; from `self` they read structure, that is fields of other types.
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

    optional_extra: ClassVar[tuple[str, ...]] = ()
    """Those of `tensor_extra` that may be left out of a step, or be None for a tensor: `s` has None
    then. What is not named here is needed in every step."""

    per_example: ClassVar[bool] = False
    """`g` has one axis more than `p`, in front: the gradients of all examples."""

    batched: ClassVar[bool] = False
    """Whether `update_tensor`, or `finish_tensor`, of a rule of matrices has no side effects.

    Engines may then stack tensors of one shape, and call it once for all of them, under
    `torch.func.vmap`; or note the functions that it calls, and call these in other steps."""

    random: ClassVar[bool] = False
    """`s.draw` has random numbers for this tensor, by its name, the same on one rank or many."""

    extra: ClassVar[frozenset[str]] = frozenset()
    required_extra: ClassVar[frozenset[str]] = frozenset()
    measures: ClassVar[bool] = False
    concludes: ClassVar[bool] = False
    finishes: ClassVar[bool] = False

    replayable = True
    follows_counts = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_memory(cls)
        arguments = inspect.signature(cls.conclude).parameters.values()
        asked = [a for a in arguments if a.kind is a.KEYWORD_ONLY]
        cls.extra = frozenset(a.name for a in asked).union(cls.tensor_extra)
        cls.required_extra = frozenset(a.name for a in asked if a.default is a.empty).union(
            set(cls.tensor_extra).difference(cls.optional_extra)
        )
        cls.measures = cls.measure_tensor is not TensorRule.measure_tensor
        cls.measures_tensors = cls.measures and cls.measure_per == "tensor"
        cls.measures_tree = cls.measures and cls.measure_per == "tree"
        cls.concludes = cls.conclude is not TensorRule.conclude
        cls.averages = cls.eval_tensor is not TensorRule.eval_tensor
        cls.finishes = cls.finish_tensor is not TensorRule.finish_tensor
        if cls.finishes and cls.elementwise:
            raise ArgumentError(
                f"`{cls.__name__}` is `elementwise`, and has a `finish_tensor`, which sees whole "
                "tensors. With it, `update_tensor` alone is by entries: leave `elementwise` out."
            )

    def init_tensor(self, p: Tensor) -> Slots:
        """The slots of one tensor before the first step: a named tuple, or ``()`` for none."""
        del p
        return ()

    def unfit(self, p: Tensor) -> str | None:
        """What keeps the rule from taking `p`, such as "must be a matrix"; `None` if it can.

        An error names the parameter then, before any is initialized.
        """
        del p
        return None

    def prepare(self, step: Any, memory: Memory) -> Mapping[str, Any]:
        """Scalars of this step, such as bias corrections; `step` is 1 at the first update.

        `self` has its schedules evaluated. Numbers are Python's, in float64, or 0-d tensors.
        It is a function of these three: where steps repeat, what asks for neither `step` nor
        `memory` is prepared once.
        """
        del step, memory
        return {}

    def measure_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> Any:
        """What to add up over tensors: a 0-d tensor, or a named tuple of them.

        With `per_example`, it may be one number for each example instead.
        """
        raise NotImplementedError

    def conclude(self, s: Scalars, memory: Memory, total: Any) -> tuple[Mapping[str, Any], Memory]:
        """Further scalars, such as a clip factor, and the new memory.

        `total` is what was measured, or `None`. Keyword-only arguments declare what is taken from
        the extra arguments of `update`. It should have no side effects: kernels of it are traced
        once, where it branches on no value of a tensor, and with ``measure_per = "tensor"`` it may
        be called for many tensors at once, under `torch.func.vmap`.
        """
        del s, total
        return {}, memory

    @abstractmethod
    def update_tensor(self, g: Tensor, slots: Slots, p: Tensor, s: Scalars) -> tuple[Tensor, Slots]:
        """The update of one tensor and its new slots, none of them a tensor that was passed in."""

    def finish_tensor(self, u: Tensor, p: Tensor, s: Scalars) -> Tensor:
        """The update, made of that of `update_tensor`, where only this has to see the tensor whole.

        `update_tensor` and `init_tensor` are by entries then, for tensors of any shape: kernels
        make the first, on shards of what each rank has, and only its update is gathered. `u` must
        not be written to: it may be a slot.
        """
        del p, s
        return u

    def eval_tensor(self, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        """The value of `p` to evaluate the model with, where it is not `p` itself."""
        del slots, memory
        return p

    # The lift: authors need not read on.

    def extra_names(self) -> frozenset[str] | None:
        return self.extra

    def tensor_extra_names(self) -> frozenset[str]:
        return frozenset(self.tensor_extra)

    def takes_examples(self) -> bool:
        return self.per_example

    def sign(self) -> int | None:
        return 1

    def eval_param(self, name: str | None, p: Tensor, slots: Slots, memory: Memory) -> Tensor:
        if not self.averages:
            return p
        wide = precision.compute_dtype(p, p, slots)
        lifted = precision.lift(p, wide), precision.lift_slots(slots, p, wide)
        return precision.lower(self.eval_tensor(*lifted, memory), p)

    def params_needed_by(self) -> str | None:
        return type(self).__name__ if self.needs_params else None

    def check_names(self, params: Sequence[tuple[str | None, Tensor]]) -> None:
        for name, p in params:
            if (why := self._unfit(p)) is not None:
                which = "a parameter" if name is None else f"parameter `{name}`"
                raise LeafError(f"`{type(self).__name__}`: {which} of shape {tuple(p.shape)} {why}")

    def _unfit(self, p: Tensor) -> str | None:
        if p.is_complex() and not self.elementwise:
            return (
                "must not be complex, since its entries see one another. Split it with "
                "`torch.view_as_real`."
            )
        return self.unfit(p)

    def init_slots(self, name: str | None, p: Tensor) -> Slots:
        if p.is_complex():
            return precision.init_complex(self._init_checked, p)
        return self._init_checked(p)

    def _init_checked(self, p: Tensor) -> Slots:
        return check_fields(f"{type(self).__name__}.init_tensor", self.init_tensor(p))

    def open(self, buckets: Sequence[Bucket], members: Members) -> Node:
        rules, rows, memory = [], [], []
        for tx, made, count, before in buckets:
            rule, step, own = tx.evaluated(count), made, before
            if before != () or isinstance(step, Tensor):
                rule, step, own = on_one_device(rule, step, own)
            rules.append(rule)
            by_number = type(step) in (int, float)  # nearly always: nothing stands in between
            more = rule.prepare(step, own) if by_number else prepared(rule, step, own)
            if own != ():  # which is written in place before it is shown
                more = dict(more)
                for name in more.keys() & self.metrics:
                    if any(more[name] is x for x in precision.entries(own)):
                        more[name] = more[name].clone()
            rows.append({**rule.hyperparam_values(), **dict.fromkeys(rule.optional_extra), **more})
            memory.append(own)
        node = Node(rules, rows, memory, members)
        if (self.concludes or self.required_extra) and not self.measures:
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
        if node.is_known:
            if self.measures:
                reduce(node, gs)
            if not self.elementwise and node.whole_hook is not None:
                node.whole_hook(node, gs, slots, ps)
            return gs, slots
        if self.measures:
            each = zip(gs, slots, ps, node.scalars(gs), strict=True)
            reduce(node, [self.measure_tensor(*one) for one in each])
        if not (self.elementwise or self.finishes):
            return self._see_whole(gs, slots, ps, node)
        us, new = self.update_tensors(gs, slots, ps, node.scalars(gs))
        if self.finishes:
            us, _ = self._see_whole(us, [()] * len(us), ps, node)
        return us, new

    def _see_whole(
        self, gs: list[Tensor], slots: list[Slots], ps: list[Tensor], node: Node
    ) -> tuple[list[Tensor], list[Slots]]:
        """`whole_tensors`, of full tensors."""
        if node.whole_hook is not None:
            made: tuple[list[Tensor], list[Slots]] | None = node.whole_hook(node, gs, slots, ps)
            if made is not None:
                return made
        tensors = node.members.tensors
        if not any(map(shards.is_sharded, tensors)):
            return self.whole_tensors(gs, slots, ps, node.scalars(gs))
        like_p = [() if self.finishes else self._like_p(x) for x in tensors]
        seen: list[Any] = ps if self.needs_params else [None] * len(ps)
        full = precision.gathered(gs, slots, seen, tensors, like_p, node.members.ranks)
        us, new = self.whole_tensors(*full, node.scalars(full[0]))
        return precision.scattered(us, new, tensors, like_p)

    def whole_tensors(
        self,
        gs: Sequence[Tensor],
        slots: Sequence[Slots],
        ps: Sequence[Tensor | None],
        scalars: Sequence[Scalars],
    ) -> tuple[list[Tensor], list[Slots]]:
        """The part of the rule that sees whole tensors: the last of two, or all of it."""
        if not self.finishes:
            return self.update_tensors(gs, slots, ps, scalars)
        each = zip(gs, ps, scalars, strict=True)
        us = [self.finish_tensor(*one) for one in each]  # type: ignore[arg-type]  # `p`: see below
        for u, g in zip(us, gs, strict=True):
            if not isinstance(u, Tensor) or u.shape != g.shape:
                got = f"shape {tuple(u.shape)}" if isinstance(u, Tensor) else type(u).__name__
                raise StructureError(
                    f"`{type(self).__name__}.finish_tensor` must return the update, a tensor of "
                    f"shape {tuple(g.shape)}, got {got}. It has no slots."
                )
        return us, list(slots)

    def update_tensors(
        self,
        gs: Sequence[Tensor],
        slots: Sequence[Slots],
        ps: Sequence[Tensor | None],
        scalars: Sequence[Scalars],
    ) -> tuple[list[Tensor], list[Slots]]:
        """`update_tensor` of each tensor of a list."""
        out: list[Any] = [
            self.update_tensor(*one)  # type: ignore[arg-type]  # `p` is `None` if no stage needs it
            for one in zip(gs, slots, ps, scalars, strict=True)
        ]
        if out and not (isinstance(out[0], tuple) and len(out[0]) == 2):
            raise StructureError(
                f"`{type(self).__name__}.update_tensor` must return the update and the slots, got "
                f"{type(out[0]).__name__}."
            )
        return [u for u, _ in out], [own for _, own in out]

    def _like_p(self, p: Tensor) -> Slots:
        """Which of the slots of `p` are shaped like it, and so cut as it is; the others are not.

        Shapes alone do not tell: a square slot may have that of the part on this rank.
        """
        made = self.init_tensor(shards.meta_like(p))
        return precision.map_slots(lambda x: shards.is_sharded(x) and x.shape == p.shape, made)


def on_one_device(rule: TensorRule, step: Any, memory: Memory) -> tuple[TensorRule, Any, Memory]:
    """A rule, a step count and memory that can meet, where some of them are on devices."""
    given = [x for x in (*precision.entries(memory), step) if isinstance(x, Tensor)]
    device = next((x.device for x in given if x.device.type != "cpu"), None)
    if device is None:
        return rule, step, memory

    def one(x: Any) -> Any:
        return near(x, device) if isinstance(x, Tensor) else x

    values = {
        name: tree.map(one, value)
        for name, value in rule.hyperparam_values().items()
        if any(isinstance(x, Tensor) and x.device != device for x in tree.leaves(value))
    }
    if device.type in NO_FLOAT64:  # that of the CPU would make more of it there
        memory = precision.map_slots(lambda x: moved(x, device), memory)
    return unchecked(rule, values) if values else rule, one(step), memory
