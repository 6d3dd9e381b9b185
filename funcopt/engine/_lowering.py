"""Lowering: from a graph and its outputs to one pass over memory, as a value and as a function."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._calls import Call, Input, Ref, ScalarInput, op_name
from ._graph import Graph
from ._symbols import Symbol


class LoweredGraph(NamedTuple):
    """One pass over one tensor, without dead code; equal ones share a kernel.

    Tensors come in as vectors of one length, scalars as one row in the compute dtype.
    """

    compute_dtype: torch.dtype
    inputs: tuple[Input, ...]  # the tensors that are read or written, numbered by role
    num_scalars: int
    calls: tuple[Call, ...]
    writes: tuple[tuple[int, Ref], ...]  # the input that is overwritten, and by which value
    measures: tuple[Ref, ...]  # 0-d values that are returned

    def text(self) -> str:
        """The key of its kernel: different for every other graph, the same in every process."""
        calls = [f"{_qualified_name(c.func)} {c.args} {c.kwargs}" for c in self.calls]
        default = torch.get_default_dtype()  # the dtype of the product of a flag and a number
        head = (default, self.compute_dtype, self.inputs, self.num_scalars)
        return "\n".join(map(str, (*head, *calls, self.writes, self.measures)))

    @property
    def sees_places(self) -> bool:
        """Whether it matters where in its tensor an entry is: no part of one can be worked on."""
        return any(x.per > 1 for x in self.inputs) or any(
            getattr(call.func, "is_primitive", False) for call in self.calls
        )

    def __call__(self, tensors: Sequence[Tensor], row: Tensor) -> tuple[Tensor, ...]:
        """Interprets it on vectors, which it changes in place."""
        values: list[Any] = [*self.for_entries(tensors), *row.unbind()]
        for call in self.calls:
            kwargs = {k: _resolved(v, values) for k, v in call.kwargs}
            values.append(call.func(*_resolved(call.args, values), **kwargs))
        for at, ref in self.writes:
            made = self.inputs[at].shared(values[ref.at])
            self.inputs[at].begin_of(tensors[at], made).copy_(made)
        return tuple(values[ref.at] for ref in self.measures)

    def for_entries(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Its inputs as vectors that have a number for each entry."""
        like = next((x for x, of in zip(tensors, self.inputs, strict=True) if of.per == 1), None)
        if like is None:
            return list(tensors)
        return [of.for_entries(x, like) for x, of in zip(tensors, self.inputs, strict=True)]

    def module(self) -> torch.fx.GraphModule:
        """The same as a module of torch.fx, for compilers."""
        graph = torch.fx.Graph()
        tensors: list[Any] = [graph.placeholder(f"x{i}") for i in range(len(self.inputs))]
        row = graph.placeholder("row")
        items = (graph.call_function(operator.getitem, (row, i)) for i in range(self.num_scalars))
        values: list[Any] = [*tensors, *items]
        for call in self.calls:
            args = _resolved(call.args, values)
            kwargs = {k: _resolved(v, values) for k, v in call.kwargs}
            name = op_name(call.func)
            if getattr(Tensor, name, None) is call.func:
                values.append(graph.call_method(name, args, kwargs))
            else:
                values.append(graph.call_function(call.func, args, kwargs))
        for at, ref in self.writes:
            graph.call_method("copy_", (tensors[at], values[ref.at]))
        graph.output(tuple(values[ref.at] for ref in self.measures))
        return torch.fx.GraphModule(torch.nn.Module(), graph)


class Lowering(NamedTuple):
    """A lowered graph, and what its inputs are in the graph that it was made of."""

    lowered: LoweredGraph
    scalars: tuple[int, ...]  # the positions, in the row of the graph, of the scalars of its row
    roles: tuple[int, ...]  # of its input tensors


def lower_graph(graph: Graph, writes: Mapping[int, Symbol], measures: Sequence[Symbol]) -> Lowering:
    """Lowers the part of a graph that computes these outputs; `writes` are by role."""
    values: list[Any] = graph.values
    origin = {v.role: i for i, v in enumerate(values) if isinstance(v, Input)}
    needed = {x.at for x in (*writes.values(), *measures)} | {origin[role] for role in writes}
    for at in range(len(values) - 1, -1, -1):
        value = values[at]
        if at in needed and isinstance(value, Call):
            needed.update(ref.at for ref in value.refs)
    order = sorted(needed)
    inputs = sorted(
        (at for at in order if isinstance(values[at], Input)),
        key=lambda at: values[at].role,
    )
    scalars = [at for at in order if isinstance(values[at], ScalarInput)]
    calls = [at for at in order if isinstance(values[at], Call)]
    new = {at: i for i, at in enumerate([*inputs, *scalars, *calls])}
    roles = tuple(values[at].role for at in inputs)
    lowered = LoweredGraph(
        graph.compute_dtype,
        tuple(values[at]._replace(role=i) for i, at in enumerate(inputs)),
        len(scalars),
        tuple(_renumbered(values[at], new) for at in calls),
        tuple((roles.index(role), Ref(new[x.at])) for role, x in sorted(writes.items())),
        tuple(Ref(new[x.at]) for x in measures),
    )
    return Lowering(lowered, tuple(values[at].position for at in scalars), roles)


def _resolved(x: Any, values: Sequence[Any]) -> Any:
    if isinstance(x, Ref):
        return values[x.at]
    return tuple(_resolved(v, values) for v in x) if isinstance(x, tuple) else x


def _renumbered(call: Call, new: Mapping[int, int]) -> Call:
    def one(x: Any) -> Any:
        if isinstance(x, Ref):
            return Ref(new[x.at])
        return tuple(map(one, x)) if isinstance(x, tuple) else x

    return Call(call.func, one(call.args), tuple((k, one(v)) for k, v in call.kwargs))


def _qualified_name(func: Any) -> str:
    return f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', op_name(func))}"
