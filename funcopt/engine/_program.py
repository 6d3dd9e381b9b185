"""One pass over one tensor: what a recording comes to, as a value and as a function."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._graph import Call, Entry, Input, Ref, Symbol, Tape, name_of


class Program(NamedTuple):
    """A recording without what nobody needs; equal ones share a kernel.

    Tensors come in as vectors of one length, numbers as one row in the dtype `wide`.
    """

    wide: torch.dtype
    inputs: tuple[Input, ...]  # the tensors that are read or written, by role
    entries: int  # numbers in the row
    calls: tuple[Call, ...]
    writes: tuple[tuple[int, Ref], ...]  # which input becomes which value
    measures: tuple[Ref, ...]  # 0-d values that are given back

    def text(self) -> str:
        """What tells it from every other program, the same in every process."""
        calls = [f"{_where(c.func)} {c.args} {c.kwargs}" for c in self.calls]
        default = torch.get_default_dtype()  # of what a flag and a number make, say
        return "\n".join(
            map(str, (default, self.wide, self.inputs, self.entries, *calls, *self[4:]))
        )

    def __call__(self, tensors: Sequence[Tensor], row: Tensor) -> tuple[Tensor, ...]:
        """Runs it on vectors, which it changes in place."""
        values: list[Any] = [*tensors, *row.unbind()]
        for call in self.calls:
            kwargs = {k: _resolved(v, values) for k, v in call.kwargs}
            values.append(call.func(*_resolved(call.args, values), **kwargs))
        for at, ref in self.writes:
            tensors[at].copy_(values[ref.at])
        return tuple(values[ref.at] for ref in self.measures)

    def module(self) -> torch.fx.GraphModule:
        """The same as code without a loop, for compilers."""
        graph = torch.fx.Graph()
        tensors: list[Any] = [graph.placeholder(f"x{i}") for i in range(len(self.inputs))]
        row = graph.placeholder("row")
        numbers = (graph.call_function(operator.getitem, (row, i)) for i in range(self.entries))
        values: list[Any] = [*tensors, *numbers]
        for call in self.calls:
            args = _resolved(call.args, values)
            kwargs = {k: _resolved(v, values) for k, v in call.kwargs}
            name = name_of(call.func)
            if getattr(Tensor, name, None) is call.func:
                values.append(graph.call_method(name, args, kwargs))
            else:
                values.append(graph.call_function(call.func, args, kwargs))
        for at, ref in self.writes:
            graph.call_method("copy_", (tensors[at], values[ref.at]))
        graph.output(tuple(values[ref.at] for ref in self.measures))
        return torch.fx.GraphModule(torch.nn.Module(), graph)


class Finished(NamedTuple):
    """A program, and which of the tape's numbers make up its row."""

    program: Program
    numbers: tuple[int, ...]
    roles: tuple[int, ...]  # of its inputs


def finish(tape: Tape, writes: Mapping[int, Symbol], measures: Sequence[Symbol]) -> Finished:
    """The program that makes these outputs of a tape; `writes` are by role."""
    values: list[Any] = tape.values
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
    entries = [at for at in order if isinstance(values[at], Entry)]
    calls = [at for at in order if isinstance(values[at], Call)]
    new = {at: i for i, at in enumerate([*inputs, *entries, *calls])}
    roles = tuple(values[at].role for at in inputs)
    program = Program(
        tape.wide,
        tuple(values[at]._replace(role=i) for i, at in enumerate(inputs)),
        len(entries),
        tuple(_renumbered(values[at], new) for at in calls),
        tuple((roles.index(role), Ref(new[x.at])) for role, x in sorted(writes.items())),
        tuple(Ref(new[x.at]) for x in measures),
    )
    return Finished(program, tuple(values[at].place for at in entries), roles)


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


def _where(func: Any) -> str:
    return f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', name_of(func))}"
