"""Random programs: a tree of parameters, a transformation, and what happens to them in turn."""

from typing import NamedTuple

import torch
from hypothesis import strategies as st

from .chains import alone, closing, one_by_one, transformations

SHAPES = [(), (1,), (3,), (2, 3), (3, 2, 2), (0, 3), (4, 1)]


class Leaf(NamedTuple):
    """A parameter: its shape, its dtype, and whether it lies in memory as a transposed one."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    turned: bool = False

    def make(self, seed):
        size = torch.Size(self.shape).numel()
        values = torch.linspace(-1.0, 1.3, size, dtype=torch.float64) + 0.1 * seed
        values = values.reshape(self.shape[::-1] if self.turned else self.shape)
        if self.dtype.is_complex:
            values = torch.complex(values, 0.5 - values)
        values = values.to(self.dtype)
        return values.permute(tuple(reversed(range(values.dim())))) if self.turned else values


class Step(NamedTuple):
    """A step; the parameters in `missing` have no gradient, and `scale` may make an outlier."""

    missing: frozenset[int] = frozenset()
    scale: float = 1.0


class Change(NamedTuple):
    """A hyperparameter of a group is multiplied."""

    group: int
    key: int
    factor: float


class Reload(NamedTuple):
    """State and groups are saved, and loaded into a new optimizer with `turn`ed parameters."""

    turn: int


class Copy(NamedTuple):
    """Parameters and optimizer are copied or pickled, and the copy goes on."""

    pickled: bool


class Move(NamedTuple):
    """The values of a parameter are put elsewhere in memory."""

    which: int


class Freeze(NamedTuple):
    """A parameter requires grad no longer, or again."""

    which: int


class Join(NamedTuple):
    """A new parameter, in a group of its own."""

    leaf: Leaf


class Leave(NamedTuple):
    """A parameter is dropped, if there are others."""

    which: int


class Decay(NamedTuple):
    """A scheduler of torch makes a step."""

    gamma: float


class Program(NamedTuple):
    tree: list[Leaf]
    tx: object
    events: list[object]

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))


leaves = st.builds(Leaf, st.sampled_from(SHAPES), st.just(torch.float64), st.booleans())
mixed = st.builds(
    Leaf,
    st.sampled_from(SHAPES),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.complex128]),
    st.booleans(),
)
outliers = st.sampled_from([1.0, 1.0, 1.0, 0.0, 30.0, float("nan"), float("inf")])
steps = st.builds(Step, st.just(frozenset()), outliers)
holes = st.builds(Step, st.frozensets(st.integers(0, 4), max_size=4), outliers)
changes = st.builds(
    Change, st.integers(0, 3), st.integers(0, 9), st.sampled_from([0.5, 0.9, 0.99, 0.0])
)
interruptions = st.one_of(
    st.builds(Reload, st.integers(0, 3)),
    st.builds(Copy, st.booleans()),
    st.builds(Move, st.integers(0, 4)),
)
departures = st.one_of(
    st.builds(Freeze, st.integers(0, 4)),
    st.builds(Join, leaves),
    st.builds(Leave, st.integers(0, 4)),
    st.builds(Decay, st.sampled_from([0.5, 0.9])),
)


def programs(tree=leaves, events=None, txs=transformations, most=8):
    every = (holes, steps, changes, interruptions, departures)
    events = st.one_of(every) if events is None else events
    return st.builds(
        Program,
        st.lists(tree, min_size=1, max_size=5),
        txs,
        st.lists(events, min_size=2, max_size=most),
    )


whole = programs(events=st.one_of(steps, interruptions))
"""Every parameter has a gradient in every step."""

separate = programs(
    events=st.one_of(holes, steps, interruptions, st.builds(Freeze, st.integers(0, 4))), txs=alone
)
"""Every parameter could be trained alone."""

others = st.one_of(holes, changes, interruptions, departures)
in_backward = programs(
    mixed, st.booleans().flatmap(lambda x: holes if x else others), txs=one_by_one, most=12
)
"""Every parameter may be stepped before the others have gradients."""

closures = programs(events=st.one_of(st.builds(Step), interruptions), txs=closing, most=4)
"""The loss is evaluated in the step."""
