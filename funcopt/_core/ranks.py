"""What crosses ranks in a step: in one form, in one order, and once.

Which collectives there are follows from parameters and rules alone, never from what a rank sees by
itself: values, gradients that are missing, a compiler, the way in which it makes its steps. Else
some ranks would wait for others that do not come. So

* numbers travel in float64, whatever their dtype here;
* what is added up over all tensors travels as one row for each set of process groups that occurs
  among all parameters, zero where nothing is there to be added;
* process groups are gone through in an order that all of their ranks find;
* a step that is begun again does not repeat what it has exchanged already.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .._numerics import shards

T = TypeVar("T")

NEUTRAL = {"sum": 0.0, "max": -torch.inf, "min": torch.inf}
"""What changes nothing when it is combined with other values."""


class Span(NamedTuple):
    """The process groups over which what is measured of one tensor is combined."""

    cuts: tuple[Any, ...]  # those whose ranks hold other parts of the tensor
    others: Any  # the one whose ranks hold other tensors of the same tree, or `None`
    device: torch.device  # where numbers are exchanged
    place: Any = ()  # the mesh and how it is cut: the same on all of its ranks, as groups are not

    @property
    def order(self) -> Any:
        """A key to sort by, the same on all ranks of the groups."""
        groups = [self.cuts, () if self.others is None else (self.others,)]
        each = [[shards.order(group) for group in some] for some in groups]
        return self.place, each, self.device.type


class Ranks:
    """The process groups that a step may meet, and what has been exchanged in it.

    Args:
        params: All parameters of the optimizer, each with the process group whose ranks hold other
            ones, if there is one; those without a gradient too.
    """

    def __init__(self, params: Iterable[tuple[Tensor, Any]]) -> None:
        params = list(params)
        self._of = {id(p): _span(p, others) for p, others in params}
        self._mean_groups = _mean_groups(params)
        self._all = _in_order(self._of.values())
        self._crosses = any(map(_crosses, self._all))
        self._kept: list[Any] | None = None  # what was exchanged, in a step that may begin again
        self._at = 0

    @property
    def take_means(self) -> bool:
        """Whether there are others that know a loss, each for its part of the data."""
        return bool(self._mean_groups)

    @property
    def share_tensors(self) -> bool:
        """Whether other ranks hold other tensors, so that this one is needed without any too."""
        return any(span.others is not None for span in self._all)

    def spans(self, tensors: Sequence[Tensor]) -> Sequence[Span]:
        """The process groups of each tensor; none at all where no measure meets other ranks."""
        known = self._of
        if not self._crosses and not any(map(shards.is_sharded, tensors)):
            return ()
        return [known[id(x)] if id(x) in known else _span(x, None) for x in tensors]

    # Steps that are begun again.

    def begin(self) -> None:
        """Begins a step; until `end`, `again` may be called."""
        self._kept, self._at = [], 0

    def again(self) -> None:
        """Begins the step again: what it has exchanged is there, and is not exchanged again."""
        self._at = 0

    def end(self) -> None:
        """Ends the step, however it went: what was exchanged is forgotten."""
        self._kept, self._at = None, 0

    def once(self, exchange: Callable[[], T]) -> T:
        """What `exchange` returns, or has returned when the step was begun before."""
        if self._kept is None:
            return exchange()
        if self._at == len(self._kept):
            self._kept.append(exchange())
        self._at += 1
        found: T = self._kept[self._at - 1]
        return found

    # Measures.

    def crossed(self, spans: Sequence[Span]) -> bool:
        """Whether measures of tensors with these spans, or of all, meet those of other ranks."""
        return self._crosses or any(map(_crosses, spans))

    def total(self, how: str, table: Tensor, spans: Sequence[Span]) -> Tensor:
        """The measures of all tensors together, here and elsewhere.

        `table` has a row for each tensor here, whose spans these are.
        """
        if not self.crossed(spans):
            return combine(how, table)
        every = _in_order((*self._all, *spans))
        table = shards.on_the_way(table)
        shape, places = table.shape[1:], _places(spans)
        by_others: dict[Any, list[Tensor]] = {}
        for span in every:
            found = [combine(how, _rows(table, places[span]))] if span in places else []
            row = found[0] if found else table.new_full(shape, NEUTRAL[how])
            for group in span.cuts:
                row = self._reduced(how, row, group, span.device)
            by_others.setdefault(span.others, []).append(row)
        totals = []
        for others in sorted(
            by_others, key=lambda group: () if group is None else shards.order(group)
        ):
            row = combine(how, torch.stack(by_others[others]))
            if others is not None:
                device = next(span.device for span in every if span.others is others)
                row = self._reduced(how, row, others, device)
            totals.append(row)
        return combine(how, torch.stack(totals))

    def each(self, how: str, table: Tensor, spans: Sequence[Span]) -> Tensor:
        """The measures of each tensor, with those of its parts on other ranks."""
        places = {span: at for span, at in _places(spans).items() if span.cuts}
        if not places:
            return table
        table = shards.on_the_way(table)
        for span in sorted(places, key=lambda x: x.order):
            rows = _rows(table, places[span])
            for group in span.cuts:
                rows = self._reduced(how, rows, group, span.device)
            if len(places[span]) == len(table):
                table = rows
            else:
                table[places[span]] = rows
        return table

    def mean(self, value: Any) -> Any:
        """A number that ranks decide by, such as the loss: its mean, the same on all of them.

        Args:
            value: A number, or a tensor of any shape and real dtype; one in parts, or of summands,
                is put together first. No derivative is taken of it.

        Returns:
            The mean of each entry, rounded once: a tensor of the same shape, on the same device, in
            the dtype of `value` if that is floating-point, else in float64. Where there are no
            other ranks, `value` itself, put together.
        """
        if shards.is_sharded(value):
            value = self.once(lambda: shards.put_together(value))
        if not self.take_means:
            return value
        mean = shards.on_the_way(value)
        for group, device in self._mean_groups:
            mean = self._reduced("sum", mean, group, device) / shards.size(group)
        narrow = isinstance(value, Tensor) and value.is_floating_point()
        return mean.to(value.dtype) if narrow else mean

    def _reduced(self, how: str, values: Tensor, group: Any, device: torch.device) -> Tensor:
        here = values.device
        return self.once(lambda: shards.all_reduce(how, values.to(device), group).to(here))

    def full_tensor(self, part: Tensor, like: Any) -> Tensor:
        """The full tensor whose local part is `part`, if `like` is sharded."""
        if not shards.is_sharded(like):
            return part
        return self.once(lambda: shards.full_tensor(part, like))


def combine(how: str, table: Tensor) -> Tensor:
    """The rows of a table together; the neutral element if there are none."""
    if not table.shape[0]:
        return table.new_full(table.shape[1:], NEUTRAL[how])
    if how == "sum":
        return table.sum(0)
    return table.amax(0) if how == "max" else table.amin(0)


def _span(x: Any, others: Any) -> Span:
    if not shards.is_sharded(x):
        return Span((), others, x.device)
    cuts = tuple(x.device_mesh.get_group(dim) for dim in shards.split_dims(x))
    return Span(cuts, others, x.device, (shards.mesh_order(x.device_mesh), shards.split_dims(x)))


def _mean_groups(params: Iterable[tuple[Any, Any]]) -> list[tuple[Any, torch.device]]:
    """The process groups over which a mean is taken, one after the other, and a device for each.

    Those of a mesh stand together. The largest come first; what lies within them has the mean
    already. Groups of equal size may cross, as rows and columns of a grid of ranks do. There all
    ranks have to begin with the rows, or all with the columns: these are distinguished by their
    name in torch, which is the same for all rows of a mesh, else by how far their ranks lie apart.
    """
    found: dict[Any, list[tuple[Any, torch.device]]] = {}
    for x, others in params:
        if shards.is_sharded(x):
            mesh = x.device_mesh
            groups = [mesh.get_group(dim) for dim in range(mesh.ndim)]
            key = (*shards.mesh_order(mesh), tuple(map(shards.order, groups)))
            found.setdefault(key, [(group, x.device) for group in groups])
        if others is not None:
            order = shards.order(others)
            found.setdefault((order[0], (len(order[0]),), (order,)), [(others, x.device)])

    def place(key: Any) -> Any:
        ranks, kinds = key[0], [shards.kind(group) for group, _ in found[key]]
        return -len(ranks), kinds, [rank - ranks[0] for rank in ranks], key

    chosen: list[tuple[Any, torch.device]] = []
    covered: list[set[int]] = []
    for key in sorted(found, key=place):
        ranks = set(key[0])
        if not any(ranks <= others for others in covered):
            covered.append(ranks)
            chosen += found[key]
    return chosen


def _crosses(span: Span) -> bool:
    return bool(span.cuts) or span.others is not None


def _in_order(spans: Iterable[Span]) -> list[Span]:
    distinct = list(dict.fromkeys(spans))
    return sorted(distinct, key=lambda span: span.order) if len(distinct) > 1 else distinct


def _places(spans: Sequence[Span]) -> dict[Span, list[int]]:
    found: dict[Span, list[int]] = {}
    for i, span in enumerate(spans):
        found.setdefault(span, []).append(i)
    return found


def _rows(table: Tensor, places: list[int]) -> Tensor:
    if len(places) == len(table):  # an index would have to be sent to the device
        return table
    return torch.stack([table[i] for i in places])


NOBODY = Ranks(())
"""For a pass of which it is not known whose ranks it meets: those of its sharded tensors."""
