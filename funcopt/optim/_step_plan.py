"""What a step has to know of parameters, groups and state: found once, and looked at every time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .._core import precision
from .._core.stage import Bucket
from .._numerics import shards
from .._numerics.scalars import number
from ..engine import StepInputs, TensorGuard, dicts_hold, identical
from ..typing import Memory
from ._clocks import Column, number_or_id
from ._groups import Grouped, Made, named
from ._layout import STEP, UPDATES, Layout


class Active(NamedTuple):
    """One parameter that takes part in a step."""

    group: int
    name: str | None
    p: Tensor
    made: Made
    layout: Layout
    slots: Any
    memory: Any
    step: Tensor
    clock: list[Tensor]  # the entries of memory that are this parameter's own
    known: bool  # whether all of it is in the state already


class Plan:
    """The parameters of a step, sorted into buckets, with the columns of their clocks.

    It holds for as long as parameters, groups and state are the same objects, these and the
    gradients have the same form, and the clocks stand where it has left them. All of that is
    compared in every step: objects with `is`, clocks on the CPU by value.
    """

    def __init__(self, opt: Grouped, active: Sequence[Active], gs: Sequence[Tensor]) -> None:
        self.active = list(active)
        self.ps = [one.p for one in active]
        self.gs = list(gs)
        self.slots = [one.slots for one in active]
        self.flips = [bool(opt.param_groups[one.group]["maximize"]) for one in active]
        self.form = object()  # of all tensors
        self.buckets: list[tuple[int, Active]] = []  # group, and one of its parameters
        self.which: list[int] = []
        found: dict[Any, int] = {}
        for one in active:
            clock = (number_or_id(x) for x in (one.step, *one.clock))
            key = (one.group, tuple(one.layout.memory_at.values()), *clock)
            if key not in found:
                found[key] = len(self.buckets)
                self.buckets.append((one.group, one))
            self.which.append(found[key])
        self.remembers = True  # something besides the slots
        self.evaluates = opt._evaluates
        self.known = all(one.known for one in active)
        if self.known:
            self._remember(opt)

    def _remember(self, opt: Grouped) -> None:
        groups = opt.param_groups
        self._groups = [
            (list(group["params"]), group["maximize"], group.get("param_names")) for group in groups
        ]
        seen = dict.fromkeys(p for group in groups for p in group["params"])
        self._all = list(seen)
        without = [p.grad is None for p in self._all]
        self._without = without if any(without) else None
        self._made = {one.group: one.made for one in self.active}
        self._dicts = [opt.state, *(x for x in opt.state.values() if isinstance(x, dict))]
        self._values = [x for stored in self._dicts for x in stored.values()]
        self._sharded = any(map(shards.is_sharded, self.ps))
        self._entries = [x for own in self.slots for x in precision.entries(own)]
        every = [] if self._sharded else [*self.ps, *self._entries]
        self._standing = [x for x in every if _is_vector(x)]
        self._turning = [x for x in every if not _is_vector(x)]
        self._all_stand = bool(self._standing) and not self._turning
        self._alike = TensorGuard(self._moving(), self._standing)
        keys = dict.fromkeys(
            key for one in self.active for key in (STEP, *one.layout.memory_at, UPDATES)
        )
        self._columns = {}
        for key in keys:
            rows = [i for i, one in enumerate(self.active) if key in opt.state[one.p]]
            if rows:
                self._columns[key] = Column([opt.state[self.ps[i]][key] for i in rows], rows)

        self._others = _others(opt, self.active)
        self.remembers = any(one.layout.memory_at for one in self.active)
        self._leaders: list[int] = []  # where the clock of each bucket stands in its column
        if STEP in self._columns:
            place = {i: k for k, i in enumerate(self._columns[STEP].rows)}
            self._leaders = [place[self.which.index(k)] for k in range(len(self.buckets))]
        self._shared = {  # common memory, and a bucket that knows it
            one.layout.memory_at[key]: bucket
            for one, bucket in zip(self.active, self.which, strict=True)
            for key in one.layout.shared
        }

    def _moving(self) -> list[Tensor]:
        """What is looked at in every step: gradients, the parts of what is sharded, matrices."""
        if not self._sharded:
            return [*self.gs, *self._turning]
        return [shards.part(x) for x in (*self.ps, *self.gs, *self._entries)]

    def still_holds(self, opt: Grouped) -> bool:
        """Whether it can be used for another step, with the gradients that are there now."""
        groups = opt.param_groups
        if len(groups) != len(self._groups):
            return False
        for group, (params, maximize, names) in zip(groups, self._groups, strict=True):
            if group["maximize"] is not maximize or group.get("param_names") is not names:
                return False
            if not identical(group["params"], params):
                return False
        for index, made in self._made.items():
            now = opt._group(index)
            if now is not made:
                if now.kind != made.kind:
                    return False
                self._made[index] = now
        gs = [p.grad for p in self._all]
        if self._without is not None:
            if [g is None for g in gs] != self._without:
                return False
            gs = [g for g in gs if g is not None]
        self._dicts[0] = opt.state
        if not dicts_hold(self._dicts, self._values):
            return False
        if not all(column.stands() for column in self._columns.values()):
            return False
        if self._sharded and any(g is None for g in gs):
            return False
        self.gs = gs  # the form tells if one is missing
        if self._sharded and not all(map(_placed_alike, self.gs, self.ps)):
            return False
        return self._alike.holds(self._moving())

    def rows(self, opt: Grouped, updates: Tensor | None) -> list[Bucket]:
        """The buckets of this step."""
        rows = []
        for (index, one), before in zip(self.buckets, self._steps(), strict=True):
            count = before if updates is None else number(updates)
            rows.append(Bucket(self._now(opt, index).tx, before + 1, count, one.memory))
        return rows

    def _steps(self) -> list[Any]:
        """The steps that each bucket has made."""
        if not self.known:
            return [number(one.step) for _, one in self.buckets]
        numbers = self._columns[STEP].numbers()
        return [numbers[k] for k in self._leaders]

    def _now(self, opt: Grouped, index: int) -> Made:
        """What the values of a group make in this step."""
        return self._made[index] if self.known else opt._group(index)

    def work(self, opt: Grouped, rows: Sequence[Bucket], extra: Mapping[str, Any]) -> StepInputs:
        """What there is to be done in this step."""
        return StepInputs(
            tx=rows[0].tx,
            buckets=rows,
            bucket_of=self.which,
            ps=self.ps,
            gs=self.gs,
            slots=self.slots,
            negate=self.flips,
            names=lambda: [one.name for one in self.active],
            keys=lambda: _keys(opt, self.active),
            extra=extra,
            tensor_extra={},
            metadata_key=self.form,
            address_key=self._alike.addresses if self.known and self._all_stand else None,
            process_group=opt.measure_group,
        )

    def release(self) -> None:
        """Lets go of the gradients: whoever sets them to `None` wants the memory."""
        self.gs = []

    def advance(self, memories: Sequence[Memory], updates: Tensor | None) -> None:
        """Writes clocks and memory after a step, those of all parameters at once."""
        after = [precision.entries(memory) for memory in memories] if self.remembers else []
        for key, column in self._columns.items():
            if key == STEP:
                column.add_one()
            elif key == UPDATES:
                if updates is not None:
                    column.fill([updates] * len(column.rows))
            else:
                places = [self.active[i].layout.memory_at[key] for i in column.rows]
                each = zip(column.rows, places, strict=True)
                column.fill([after[self.which[i]][place] for i, place in each])
        for at, copies in self._others.items():
            for copy in copies if at in self._shared else ():
                copy.copy_(after[self._shared[at]][at])


def _keys(opt: Grouped, active: Sequence[Active]) -> list[str]:
    """The names of the parameters; where there are none, numbers, as in a list of them."""
    each = [x for group in opt.param_groups for x in named(group)]
    keys = {p: name or str(i) for i, (name, p) in enumerate(each)}
    return [keys[one.p] for one in active]


def _others(opt: Grouped, active: Sequence[Active]) -> dict[int, list[Tensor]]:
    """The copies of common memory that belong to parameters that take no part."""
    if not any(one.layout.shared for one in active):
        return {}
    mine = {id(x) for one in active for x in opt.state[one.p].values()}
    return {
        at: [x for x in copies if id(x) not in mine]
        for at, copies in opt._common().items()  # type: ignore[attr-defined]
    }


def _placed_alike(g: Any, p: Any) -> bool:
    return not shards.is_sharded(g) or g.placements == p.placements


def _is_vector(x: Tensor) -> bool:
    """Whether it cannot be turned into another tensor of its size at the same place."""
    return x.dim() < 2 and not x.is_complex()
