"""The planner: divides the calls of a rule into passes over tiles and functions of torch.

What is computed by entries, and the sums over rows and columns in which it ends, becomes passes;
all other calls stay functions of torch, in between. A pass reads what is in memory and computes the
rest once more, so nothing is written between two passes but what other calls need.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch

from ._call_log import Item, NotedCall, Value, map_args
from ._calls import Ref, op_name
from ._graph import Graph
from ._guards import Guard, ScalarSource, Unsupported
from ._instructions import ARITY, FILLS, REVERSED, SYNONYMS
from ._plan import CallStep, PassStep, Reduction, Step
from ._symbols import Symbol
from ._tiles import Extent, TilePass, Tiling

SAME_ENTRIES = frozenset({"clone", "contiguous", "detach", "reshape", "view", "view_as"})
"""Functions that change nothing where the shape is the same."""

BY_ENTRIES = (
    frozenset([*ARITY, *SYNONYMS, *REVERSED, *FILLS])
    | {"full_like", "addcmul", "addcdiv", "isinf", "masked_fill", "clamp_min", "clamp_max"}
) - {"max", "min", "copy"}
"""Functions whose result for an entry depends on the arguments there, and on nothing else."""

REDUCTIONS = {"sum": "sum", "mean": "sum", "amax": "amax", "amin": "amin"}
"""Functions that measure rows or columns, and what is measured."""

OF_FLAGS = {"any": "amax", "all": "amin"}
"""The same, of flags: the machine has 1 and 0 for them."""

LEAST_SAVED = 2**21
"""Entries that a pass has to save reading or writing: it takes some time beside its work."""


class Planner:
    """Where each value is made: by which pass, or before which pass by a function of torch.

    Values are numbered in the order of their calls. `shape` is that of the matrices, `dtype` that
    of the computation. Guards are added for what becomes part of a program.
    """

    def __init__(
        self, values: Sequence[Value], shape: torch.Size, dtype: torch.dtype, guards: list[Guard]
    ) -> None:
        self.values, self.shape, self.dtype, self.guards = values, shape, dtype, guards
        self._rank = len(shape)
        self._same: dict[int, int] = {}  # what has the entries of another value
        self._by_entries: set[int] = set()
        self._reductions: dict[int, Reduction] = {}
        self._stage: dict[int, int] = {}
        """Of a value by entries, the pass that can compute it; of another, the first to read it."""

        self._last = 0  # that of the call before: they keep their order, as random numbers do
        self._probe = Tracing(self)
        for at in range(len(values)):
            self._place(at)

    def is_by_entries(self, at: int) -> bool:
        """Whether passes compute a value, each that needs it for itself."""
        return at in self._by_entries

    def root(self, at: int) -> int:
        """The first value with the same entries."""
        return self._same.get(at, at)

    def extent(self, at: int) -> Extent | None:
        """What a value has numbers for, as an input of a pass; `None` if it cannot be one."""
        value = self.values[at]
        shape = (*[1] * (self._rank - len(value.shape)), *value.shape)
        fits = len(shape) == self._rank and value.dtype in (self.dtype, torch.bool)
        if not fits or any(x not in (1, y) for x, y in zip(shape, self.shape, strict=True)):
            return None
        if shape[-2:] == self.shape[-2:]:
            return Extent.ENTRIES if value.dtype is self.dtype else None
        return Extent.ROWS if shape[-1] == 1 else Extent.COLUMNS

    def steps(self, results: Sequence[int]) -> list[tuple[Step, list[int]]]:
        """The steps that make these values, each with those that are not needed any more.

        Raises:
            Unsupported: If passes would save nothing.
        """
        needed = self._needed(results)
        calls = {
            at: self._call_step(at, call)
            for at in sorted(needed)
            if (call := self.values[at].call) is not None and self._is_call(at)
        }
        used = set(results).union(*(step.uses for step in calls.values()))
        stored = sorted(filter(self.is_by_entries, used))
        if any(self.values[at].dtype is not self.dtype for at in stored):
            raise Unsupported("flags that another function needs")
        measured = sorted(self._reductions.keys() & needed)
        steps: list[Step] = []
        before = sum(map(self._traffic, (self._by_entries & needed).union(measured)))
        for stage in range(max(self._stage[at] for at in needed) + 1):
            steps += [step for at, step in calls.items() if self._stage[at] == stage]
            made = [at for at in stored if self._stage[at] == stage]
            mine = [at for at in measured if self._stage[self._reductions[at].of] == stage]
            if made or mine:
                in_memory = {at for at in stored if self._stage[at] < stage}
                steps.append(self._pass(made, mine, in_memory))
        passes = [step.traffic for step in steps if isinstance(step, PassStep)]
        saved = (before - sum(passes)) * self.shape.numel()
        if not passes or saved < LEAST_SAVED * len(passes):
            raise Unsupported("a rule for which passes save too little")
        return _with_drops(steps, results)

    def _place(self, at: int) -> None:
        """Decides what makes a value, and when."""
        call = self.values[at].call
        if call is None:
            self._stage[at] = 0
            return
        refs = list(map(self.root, call.refs))
        if isinstance(call, NotedCall):
            if self._is_the_same(call) and self.values[at].shape == self.shape:
                self._same[at] = refs[0]
                return
            if self._can_be_traced(at, call):
                self._by_entries.add(at)
                self._stage[at] = max(self._stage[x] for x in refs)
                return
            if (reduction := self._reduction(call)) is not None:
                self._reductions[at] = reduction
                self._stage[at] = self._stage[reduction.of] + 1
                return
        self._last = max(self._last, *(self._stage[x] + self.is_by_entries(x) for x in refs), 0)
        self._stage[at] = self._last

    def _is_call(self, at: int) -> bool:
        return not self.is_by_entries(at) and at not in self._reductions

    def _is_the_same(self, call: NotedCall) -> bool:
        if op_name(call.func) not in SAME_ENTRIES or not call.args or type(call.args[0]) is not Ref:
            return False
        root = self.root(call.args[0].at)
        return self.is_by_entries(root) and self.values[root].shape == self.shape

    def _can_be_traced(self, at: int, call: NotedCall) -> bool:
        value = self.values[at]
        if value.shape != self.shape or op_name(call.func).strip("_") not in BY_ENTRIES:
            return False
        try:
            self._probe.computed(at)
        except Unsupported:
            return False
        return value.dtype in (self.dtype, torch.bool)

    def _reduction(self, call: NotedCall) -> Reduction | None:
        """A call as a reduction, over rows or columns, of what is computed by entries."""
        name = op_name(call.func)
        if not call.args or type(call.args[0]) is not Ref:
            return None
        at = self.root(call.args[0].at)
        known = OF_FLAGS if self.values[at].dtype is torch.bool else REDUCTIONS
        if name not in known or not self.is_by_entries(at):
            return None
        given = dict(zip(("dim", "keepdim"), call.args[1:], strict=False)) | call.kwargs
        dims = given.pop("dim", None)
        if given.keys() - {"keepdim"}:
            return None
        dims = range(self._rank) if dims in (None, (), []) else dims
        over = frozenset(x % self._rank for x in ([dims] if isinstance(dims, int) else dims))
        if not over & {self._rank - 1, self._rank - 2}:
            return None
        divisor = torch.Size([self.shape[dim] for dim in over]).numel() if name == "mean" else 1
        return Reduction(at, known[name], over, divisor)

    def _traffic(self, at: int) -> int:
        """How many whole tensors the function that makes a value reads and writes."""
        call = self.values[at].call
        return sum(self.values[x].shape == self.shape for x in {at, *(call.refs if call else ())})

    def _needed(self, results: Sequence[int]) -> set[int]:
        """The values that these are made of."""
        needed, left = set[int](), list(results)
        while left:
            at = left.pop()
            if at not in needed:
                needed.add(at)
                call = self.values[at].call
                left += map(self.root, () if call is None else call.refs)
        return needed

    def _call_step(self, at: int, call: NotedCall | Item) -> CallStep:
        if isinstance(call, Item):
            return CallStep(at, call)

        def root(x: Any) -> Any:
            return Ref(self.root(x.at)) if type(x) is Ref else x

        args, kwargs = map_args(call.args, root), map_args(call.kwargs, root)
        return CallStep(at, NotedCall(call.func, args, kwargs))

    def _pass(
        self, made: Sequence[int], measured: Sequence[int], before: Collection[int]
    ) -> PassStep:
        tracing = Tracing(self, before)
        each = [(at, self._reductions[at], self.values[at]) for at in measured]
        of_rows = [one for one in each if self._rank - 1 in one[1].dims]
        of_columns = [one for one in each if self._rank - 1 not in one[1].dims]
        outputs = (
            [tracing.value(at) for at in made],
            [(how.name, tracing.value(how.of).to(self.dtype)) for _, how, _ in of_rows],
            [(how.name, tracing.value(how.of).to(self.dtype)) for _, how, _ in of_columns],
        )
        kernel = TilePass(tracing.graph, [extent for _, extent in tracing.inputs], *outputs)
        return PassStep(
            kernel,
            self.shape,
            Tiling.of(self.shape),
            tracing.inputs,
            tracing.numbers,
            made,
            of_rows,
            of_columns,
        )


class Tracing:
    """The graph of a pass: values are symbols, computed of what is in memory before it."""

    def __init__(self, planner: Planner, before: Collection[int] = ()) -> None:
        self._planner, self._before = planner, before
        self.graph = Graph(planner.dtype, torch.device("cpu"))
        self.graph.guards = planner.guards
        self.inputs: list[tuple[int, Extent]] = []
        self.numbers: list[int] = []
        self._symbols: dict[int, Any] = {}

    def value(self, at: int) -> Any:
        """The symbol of a value."""
        at = self._planner.root(at)
        if at not in self._symbols:
            reads = at in self._before or not self._planner.is_by_entries(at)
            self._symbols[at] = self._read(at) if reads else self.computed(at)
        return self._symbols[at]

    def computed(self, at: int) -> Any:
        """The symbol that its function returns.

        Raises:
            Unsupported: If that is nothing that a pass can compute.
        """
        call = self._planner.values[at].call
        assert isinstance(call, NotedCall)

        def symbol(x: Any) -> Any:
            return self.value(x.at) if type(x) is Ref else x

        made = call.func(*map_args(call.args, symbol), **map_args(call.kwargs, symbol))
        is_flag = isinstance(made, Symbol) and made.meta.dtype is torch.bool
        if not isinstance(made, Symbol) or not made.meta.is_vector:
            raise Unsupported(f"`{op_name(call.func)}` of numbers only")
        if made.meta.dtype is not self._planner.dtype and not is_flag:
            raise Unsupported(f"`{op_name(call.func)}` in {made.meta.dtype}")
        return made

    def _read(self, at: int) -> Any:
        value = self._planner.values[at]
        if value.shape.numel() != 1:
            if (extent := self._planner.extent(at)) is None:
                raise Unsupported("a tensor of another shape or dtype")
            self.inputs.append((at, extent))
            made: Any = self.graph.input(len(self.inputs) - 1, self._planner.dtype)
            return made != 0 if value.dtype is torch.bool else made
        if value.dtype is not self._planner.dtype:
            raise Unsupported(f"a number in {value.dtype}")
        self.numbers.append(at)
        return self.graph.scalar(_value_source(at))


def _value_source(at: int) -> ScalarSource:
    def value(given: Any, i: int) -> Any:
        return given[1][at]

    return ScalarSource(value)


def _with_drops(steps: Sequence[Step], results: Sequence[int]) -> list[tuple[Step, list[int]]]:
    """Steps, each with the values that no later one needs."""
    kept = set(results)
    ordered: list[tuple[Step, list[int]]] = []
    for step in reversed(steps):
        ordered.append((step, sorted(step.uses - kept)))
        kept |= step.uses
    return ordered[::-1]
