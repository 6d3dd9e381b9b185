"""What a step has to know of parameters, groups and state: found once, and checked every time."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .._core import precision
from .._core.ranks import Ranks
from .._core.stage import Bucket
from .._core.tensor_rule import PerTensor
from .._numerics import shards
from .._numerics.names import plain_names
from .._numerics.scalars import moved, number
from ..engine import (
    MemoryNumbers,
    ReadyGuard,
    StepInputs,
    TensorGuard,
    Unsupported,
    dicts_hold,
    identical,
    is_device,
)
from ..typing import Memory
from ._active import ActiveParameter, active_parameters
from ._clocks import Known, StateColumn, clock_key, counted, look_once, note
from ._groups import ParameterGroups
from ._idle_plan import IdlePlan
from ._options import Options, given_names
from ._ranks import ranks_of, with_means
from ._state import State, StateStore, clock_device
from ._state_layout import STEP, UPDATES


class StepPlan:
    """The parameters of a step, sorted into buckets, with the columns of their clocks.

    A bucket are the parameters of one group that have made the same number of steps. Where all
    state is there, a plan is for the next step too. It holds for as long as parameters, groups and
    state are the same objects, these and the gradients have the same form, and the clocks are as
    it has left them. All of that is compared in every step: objects with `is`, clocks on the CPU
    by value.
    """

    counts = True  # whether it is a step of the parameters here

    def __init__(
        self,
        active: Sequence[ActiveParameter],
        gs: Sequence[Tensor],
        param_groups: list[Options],
        state: State,
        groups: ParameterGroups,
        store: StateStore,
    ) -> None:
        self.active = list(active)
        self.ps = [one.p for one in active]
        self.gs = list(gs)
        self.slots = [one.slots for one in active]
        self._sharded = any(map(shards.is_sharded, self.ps))
        self.negate = [bool(param_groups[one.group]["maximize"]) for one in active]
        self.metadata_key = object()  # of all tensors
        self.device = next((p.device for p in self.ps if p.device.type != "cpu"), None)
        self.firsts: list[ActiveParameter] = []  # of each bucket, one of its parameters
        self.bucket_of: list[int] = []  # the bucket of each parameter
        found: dict[Any, int] = {}
        if self.device is not None:
            look_once([x for one in active for x in (one.step, *one.clock) if not x.dim()])
        for one in active:
            clock = (clock_key(x) for x in (one.step, *one.clock))
            key = (one.group, tuple(one.layout.memory_at.values()), *clock)
            if key not in found:
                found[key] = len(self.firsts)
                self.firsts.append(one)
            self.bucket_of.append(found[key])
        self.group_of = [one.group for one in self.firsts]
        self.has_memory = True  # something other than the slots
        self.stored = all(one.stored for one in active)
        self.lasting = self.stored and not any(one.due for one in active)
        self.groups = groups
        self._ranks: tuple[Any, Ranks | None] = (None, None)  # by what they were made of
        self._names: Sequence[str] | None = None
        self._transformations = {one.group: one.transformation for one in active}
        if self.stored:
            self._prepare_guards(param_groups, state)
            self._prepare_columns(param_groups, state, store)

    # Whether it is for the next step too.

    def _prepare_guards(self, param_groups: list[Options], state: State) -> None:
        self._contents = [
            (list(group["params"]), group["maximize"], group.get("param_names"))
            for group in param_groups
        ]
        self._all = list(dict.fromkeys(p for group in param_groups for p in group["params"]))
        without = [p.grad is None for p in self._all]
        self._without = without if any(without) else None
        self._keys = list(state)
        self._dicts = [state, *(x for x in state.values() if isinstance(x, dict))]
        self._values = [x for stored in self._dicts for x in stored.values()]
        self._entries = [x for own in self.slots for x in precision.entries(own)]
        every = [] if self._sharded else [*self.ps, *self._entries]
        vectors = [x for x in every if _is_vector(x)]  # for which it is enough to begin there
        self._matrices = [x for x in every if not _is_vector(x)]
        self._only_vectors = bool(vectors) and not self._matrices
        self._guard = TensorGuard(self._compared(), vectors)

    def _compared(self) -> list[Tensor]:
        """Tensors that may be others in every step: gradients, the parts of shards, matrices."""
        if not self._sharded:
            return [*self.gs, *self._matrices]
        return [shards.part(x) for x in (*self.ps, *self.gs, *self._entries)]

    def holds(self, param_groups: list[Options], state: State) -> bool:
        """Whether it can be used for another step, with the gradients that are there now."""
        if not self.groups_hold(param_groups):
            return False
        gs = [p.grad for p in self._all]
        if self._without is not None:
            if [g is None for g in gs] != self._without:
                return False
            gs = [g for g in gs if g is not None]
        self._dicts[0] = state
        if not (identical(list(state), self._keys) and dicts_hold(self._dicts, self._values)):
            return False
        if not all(column.unchanged() for column in self._columns.values()):
            return False
        for clock in self._clocks:
            if clock.room <= 0:
                return False
        if self._sharded and any(g is None for g in gs):
            return False
        self.gs = gs  # the form tells if one is missing
        if self._sharded and not all(map(_placed_alike, self.gs, self.ps)):
            return False
        return self._guard.holds(self._compared())

    def groups_hold(self, param_groups: list[Options]) -> bool:
        """Whether the groups are of the same parameters; values may be others."""
        if len(param_groups) != len(self._contents):
            return False
        for group, (params, maximize, names) in zip(param_groups, self._contents, strict=True):
            if group["maximize"] is not maximize or group.get("param_names") is not names:
                return False
            if not identical(group["params"], params):
                return False
        for index, before in self._transformations.items():
            now = self.groups.transformation(param_groups, index)
            if now is not before:
                if now.slots_key != before.slots_key:
                    return False
                self._transformations[index] = now
        return True

    @property
    def values_may_change(self) -> bool:
        """Whether a value in a group, such as a list, may be another and the same object."""
        return not all(one.immutable for one in self._transformations.values())

    def transformations(self) -> list[PerTensor]:
        """That of each bucket."""
        return [self._transformations[one.group].tx for one in self.firsts]

    def numbers_in_memory(self) -> tuple[list[StateColumn], MemoryNumbers] | None:
        """The columns of memory, in its order, if it is numbers that are the same for all."""
        columns = {k: x for k, x in self._columns.items() if k not in (STEP, UPDATES)}
        places = [
            {key: one.layout.memory_at.get(key, -1) for key in columns} for one in self.active
        ]
        in_order = {x: key for key, x in places[0].items()}
        if any(self._elsewhere.values()) or any(one != places[0] for one in places):
            return None
        if sorted(in_order) != list(range(len(columns))):
            return None
        found = [columns[in_order[k]] for k in range(len(columns))]
        numbers = [x.one_number(len(self.active)) for x in found]
        known = [x for x in numbers if x is not None]
        return (found, MemoryNumbers(known)) if len(known) == len(found) else None

    def lend(
        self, memory: Sequence[StateColumn], numbers: MemoryNumbers
    ) -> tuple[ReadyGuard, float]:
        """What tells that it holds, in steps that are made by kernels alone; for so many steps.

        Args:
            memory: The columns that are written there too.
            numbers: What they are to be after each step.

        Raises:
            Unsupported: If more has to be looked at.
        """
        clock = self._columns[STEP].lend()
        if clock is None or self._sharded or self.device is not None:
            raise Unsupported("clocks that are read one by one, or tensors that are not here")
        ranks = self._ranks[1]
        if ranks is None or ranks.take_means or ranks.crossed(()):
            raise Unsupported("measures that meet those of other ranks")
        fixed = [*self.ps, *self._entries]
        beside = fixed if self._guard.addresses is None else self._matrices
        columns = [self._columns[STEP], *memory]
        fixed = [*fixed, *(x for column in columns for x in column.tensors)]
        lent = [x for x in (column.lend() for column in memory) if x is not None]
        of = self._dicts, self._all, beside, fixed
        room = min(x.room for x in self._clocks)
        return ReadyGuard(*of, *clock, lent, numbers.words), room

    def take_back(self, guard: ReadyGuard, made: int, memory: Sequence[StateColumn]) -> None:
        """Goes on after so many such steps."""
        self._columns[STEP].take_back(guard.clock, made)
        for column, numbers in zip(memory, guard.columns, strict=True):
            column.take_back(numbers, 0)

    def count_update(self) -> None:
        """Counts an update for schedules, after a step that has been counted otherwise."""
        self._columns[UPDATES].add(1)

    def others_hold(self, lent: Sequence[StateColumn]) -> bool:
        """Whether numbers are as they were left: steps, and what is lent, are not looked at."""
        others = (x for key, x in self._columns.items() if key != STEP and x not in lent)
        return all(x.unchanged() for x in others)

    def release(self) -> None:
        """Drops the gradients: whoever sets them to `None` wants the memory."""
        self.gs = []

    # What there is to be done.

    def buckets(self, updates: Tensor | None) -> list[Bucket]:
        """The buckets of this step, with the numbers of their steps."""
        found = []
        each = zip(self.firsts, self.transformations(), self._steps(), strict=True)
        for one, tx, before in each:
            count = before if updates is None else number(updates)
            found.append(Bucket(tx, before + 1, count, one.memory))
        return found

    def _steps(self) -> list[Any]:
        """The steps that each bucket has made."""
        if not self.stored:
            return [number(one.step) for one in self.firsts]
        numbers = self._columns[STEP].numbers()
        return [numbers[row] for row in self._first_rows]

    def inputs(
        self,
        param_groups: list[Options],
        buckets: Sequence[Bucket],
        extra: Mapping[str, Any],
        measure_group: Any,
    ) -> StepInputs:
        """What the engine is to do in this step."""
        places = self._sharded and not buckets[0].tx.takes_examples()
        ranks = self._ranks_of(param_groups, measure_group)
        return StepInputs(
            tx=buckets[0].tx,
            buckets=buckets,
            bucket_of=self.bucket_of,
            ps=self.ps,
            gs=list(map(shards.placed_as, self.gs, self.ps)) if places else self.gs,
            slots=self.slots,
            negate=self.negate,
            names=lambda: [one.name for one in self.active],
            keys=lambda: self._plain_names(param_groups),
            extra=with_means(self.groups.who, buckets[0].tx, extra, ranks),
            tensor_extra={},
            metadata_key=self.metadata_key,
            address_key=self._guard.addresses if self.stored and self._only_vectors else None,
            ranks=ranks,
        )

    def _plain_names(self, param_groups: list[Options]) -> Sequence[str]:
        """By these, patterns find parameters; the plan holds while the names given are the same."""
        if self._names is None:
            self._names = _keys(param_groups, self.active)
        return self._names

    def _ranks_of(self, param_groups: list[Options], measure_group: Any) -> Ranks:
        made_of, ranks = self._ranks
        if ranks is None or made_of is not measure_group:
            ranks = ranks_of(self.groups.who, param_groups, measure_group)
            self._ranks = (measure_group, ranks)
        return ranks

    # What becomes of the state. Slots have been written by the engine.

    def _prepare_columns(
        self, param_groups: list[Options], state: State, store: StateStore
    ) -> None:
        keys = dict.fromkeys(
            key for one in self.active for key in (STEP, *one.layout.memory_at, UPDATES)
        )
        self._columns: dict[str, StateColumn] = {}
        for key in keys:
            rows = [
                i
                for i, one in enumerate(self.active)
                if key in state[one.p]  # which may be a slot or a note of that name
                and (key in (STEP, UPDATES) or key in one.layout.memory_at)
            ]
            if rows:
                self._columns[key] = StateColumn([state[self.ps[i]][key] for i in rows], rows)
        self._clocks = [self._columns[key] for key in (STEP, UPDATES) if key in self._columns]
        self._first_rows: list[int] = []  # where the step of each bucket stands in its column
        if STEP in self._columns:
            place = {i: row for row, i in enumerate(self._columns[STEP].rows)}
            self._first_rows = [place[self.bucket_of.index(k)] for k in range(len(self.firsts))]
        self.has_memory = any(one.layout.memory_at for one in self.active)
        self._shared = self._shared_places()
        self._elsewhere: dict[int, list[Tensor]] = {}  # shared memory of all other parameters
        if self._shared:
            mine = {id(x) for one in self.active for x in state[one.p].values()}
            for at, copies in store.shared(param_groups, state).items():
                self._elsewhere[at] = [x for x in copies if id(x) not in mine]

    def _shared_places(self) -> dict[int, int]:
        """The places of shared memory, each with a bucket that knows it."""
        return {
            one.layout.memory_at[key]: bucket
            for one, bucket in zip(self.active, self.bucket_of, strict=True)
            for key in one.layout.shared
        }

    @functools.cached_property
    def counts_on_device(self) -> bool:
        """Whether all clocks and memory are on devices."""
        every = [x for column in self._columns.values() for x in column.tensors]
        return all(is_device(x.device) for x in every)

    def advance(self, memories: Sequence[Memory], updates: Tensor | None, made: Any) -> None:
        """Writes clocks and memory after a step, those of all parameters at once.

        `made` is 1, or a tensor that is 0 if the step was left out.
        """
        self._columns[STEP].add(made)
        if UPDATES in self._columns and updates is not None:
            column = self._columns[UPDATES]
            column.fill([updates] * len(column.rows))
        self.keep(memories)

    def keep(self, memories: Sequence[Memory]) -> None:
        """Writes memory after a step."""
        if not self.has_memory:
            return
        after = [precision.entries(memory) for memory in memories]
        for key, column in self._columns.items():
            if key not in (STEP, UPDATES):
                places = [self.active[i].layout.memory_at[key] for i in column.rows]
                each = zip(column.rows, places, strict=True)
                column.fill([after[self.bucket_of[i]][place] for i, place in each])
        for at, copies in self._elsewhere.items():
            for copy in copies if at in self._shared else ():
                copy.copy_(after[self._shared[at]][at])

    def commit(
        self,
        param_groups: list[Options],
        state: State,
        store: StateStore,
        memories: Sequence[Memory],
        updates: Tensor | None,
        made: Any,
        replace: bool,
    ) -> None:
        """Writes all state after a step, and what the step has begun: parameter by parameter."""
        new = self.state_after(param_groups, memories, updates, made)
        store.write(state, new, replace)
        self.note_written(state, new)
        store.write_shared(param_groups, state, self.shared_after(memories))

    def state_after(
        self,
        param_groups: list[Options],
        memories: Sequence[Memory],
        updates: Tensor | None,
        made: Any,
    ) -> dict[Tensor, dict[str, Tensor]]:
        """All state after a step, of each parameter."""
        new = {}
        for one, slots, bucket in zip(self.active, self.slots, self.bucket_of, strict=True):
            new[one.p] = one.layout.pack(slots, memories[bucket])
            new[one.p][STEP] = counted(one.step, made)
            if updates is not None:
                device = clock_device(one.p, param_groups[one.group])
                new[one.p][UPDATES] = moved(updates, device)
        return new

    def shared_after(self, memories: Sequence[Memory]) -> dict[int, Tensor]:
        """The memory after a step that all parameters have in common, by its place."""
        places = self._shared_places().items()
        return {at: precision.entries(memories[bucket])[at] for at, bucket in places}

    def note_written(self, state: State, new: Mapping[Tensor, Mapping[str, Tensor]]) -> None:
        """Notes which numbers on a device are the same: those of one bucket."""
        origins: dict[Any, object] = {}
        for one, bucket in zip(self.active, self.bucket_of, strict=True):
            for key in (STEP, *one.layout.memory_at, UPDATES):
                if key in new[one.p]:
                    origin = origins.setdefault((key, bucket), object())
                    note(state[one.p][key], Known(origin))


Plan = StepPlan | IdlePlan


def plan_step(
    param_groups: list[Options],
    state: State,
    groups: ParameterGroups,
    store: StateStore,
    measure_group: Any,
) -> Plan | None:
    """The plan of a step; `None` if no parameter has a gradient, and no rank waits for this one.

    Raises:
        SparseGradientError: If a gradient is sparse.
        StructureError: If one gradient is there for all examples, and one for each is needed.
    """
    groups.refresh(param_groups)
    store.settle(param_groups, state)
    active, gs = active_parameters(param_groups, state, groups, store)
    if active:
        return StepPlan(active, gs, param_groups, state, groups, store)
    if measure_group is not None:
        ranks = ranks_of(groups.who, param_groups, measure_group)
        if ranks.share_tensors:
            return IdlePlan(param_groups, state, groups, store, ranks)
    return None


def keys_of(param_groups: list[Options]) -> dict[Tensor, str]:
    """The names of the parameters; where there are none, numbers, as in a list of them."""
    names = plain_names([name for group in param_groups for name in given_names(group)])
    each = zip(names, (p for group in param_groups for p in group["params"]), strict=False)
    return {p: name or str(i) for i, (name, p) in enumerate(each)}


def _keys(param_groups: list[Options], active: Sequence[ActiveParameter]) -> list[str]:
    keys = keys_of(param_groups)
    return [keys[one.p] for one in active]


def _placed_alike(g: Any, p: Any) -> bool:
    return not shards.is_sharded(g) or g.placements == p.placements


def _is_vector(x: Tensor) -> bool:
    """Whether it cannot be turned into another tensor of its size at the same place."""
    return x.dim() < 2 and not x.is_complex()
