"""A program run over lists of tensors: each operation once for all of them.

For devices where to launch an operation takes longer than the operation: torch's `_foreach_`
functions make one launch of many tensors. What they do not have runs tensor by tensor. Nothing here
waits for a device.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics.scalars import double
from ._blocks import Block, Tasks, flat
from ._graph import Call, Ref, name_of
from ._program import Program

UNARY = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p "
    "log2 neg reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
)
UNARY_NAMES = frozenset(UNARY.split(" "))
BINARY = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "true_divide": "div",
    "maximum": "maximum",
    "minimum": "minimum",
    "pow": "pow",
}
COMMUTES = frozenset({"add", "mul", "maximum", "minimum"})
TAKES_TENSOR = frozenset({"mul", "div"})
"""Functions of a list and of one number that is on the device."""


class Numbers(NamedTuple):
    """One number for each cell: a 0-d tensor."""

    rows: Sequence[Tensor]


class Foreach:
    """Runs a program, operation by operation, over all tensors of its tasks."""

    chunk = sys.maxsize  # a task is a whole tensor

    def __init__(self, program: Program) -> None:
        self._program = program
        first = len(program.inputs) + program.entries
        self._last = list(range(first))  # where each value is used for the last time
        for at, call in enumerate(program.calls, first):
            self._last.append(at)
            for x in call.refs:
                self._last[x.at] = at
        for ref in (*(ref for _, ref in program.writes), *program.measures):
            self._last[ref.at] = sys.maxsize

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        if not tasks.count:
            return None
        leaves, rows_of = zip(*((leaf, row) for leaf, _, _, row in tasks), strict=True)
        program = self._program
        given = [[flat(block.columns[role][leaf]) for leaf in leaves] for role in roles]
        values: list[Any] = [*given]
        for k in range(program.entries):
            values.append(Numbers([_scalar(row[k], program.wide) for row in rows]))
        for call in program.calls:
            values.append(_Step(call, values, rows_of).result())
            for x in set(call.refs):
                if self._last[x.at] == len(values) - 1:
                    values[x.at] = None  # its memory can be used again
        for at, ref in program.writes:
            torch._foreach_copy_(given[at], values[ref.at])
        if not program.measures:
            return None
        columns = [torch.stack(values[ref.at]) for ref in program.measures]
        return double(torch.stack(columns, 1))


class _Step:
    """One operation, for all tensors."""

    def __init__(self, call: Call, values: Sequence[Any], rows_of: Sequence[int]) -> None:
        self._call, self._values, self._rows_of = call, values, rows_of

    def result(self) -> Any:
        call, name = self._call, name_of(self._call.func)
        args = [self._values[x.at] if isinstance(x, Ref) else x for x in call.args]
        if not call.kwargs and isinstance(args[0] if args else None, (list, Numbers)):
            made = self._at_once(name, args)
            if made is not None:
                return made
        if not any(isinstance(self._values[x.at], list) for x in call.refs):
            count = max(len(self._values[x.at].rows) for x in call.refs)
            return Numbers([self._single(row, row) for row in range(count)])
        return [self._single(leaf, row) for leaf, row in enumerate(self._rows_of)]

    def _single(self, leaf: int, row: int) -> Tensor:
        """The operation as it is written, for one tensor."""

        def one(x: Any) -> Any:
            if isinstance(x, Ref):
                value = self._values[x.at]
                return value.rows[row] if isinstance(value, Numbers) else value[leaf]
            return tuple(map(one, x)) if isinstance(x, tuple) else x

        kwargs = {k: one(v) for k, v in self._call.kwargs}
        made: Tensor = self._call.func(*map(one, self._call.args), **kwargs)
        return made

    def _at_once(self, name: str, args: list[Any]) -> list[Tensor] | None:
        """The operation as one function of lists, if there is such a one."""
        if name in COMMUTES and len(args) == 2 and isinstance(args[0], Numbers):
            args = args[::-1]
        if not isinstance(args[0], list) or not args[0][0].is_floating_point():
            return None  # numbers would make another dtype of it than 0-d tensors do
        if name == "to" and len(args) == 2 and isinstance(args[1], torch.dtype):
            made = [torch.empty_like(x, dtype=args[1]) for x in args[0]]
            torch._foreach_copy_(made, args[0])
            return made
        if name in UNARY_NAMES and len(args) == 1:
            return _function(name)(args[0])
        if name in BINARY and len(args) == 2:
            other = self._operand(BINARY[name], args[1])
            return None if other is None else _function(BINARY[name])(args[0], other)
        if name == "lerp" and len(args) == 3 and isinstance(args[1], list):
            weight = self._operand(name, args[2])
            return None if weight is None else _function(name)(args[0], args[1], weight)
        return None

    def _operand(self, name: str, x: Any) -> Any:
        """What stands for an operand: tensors, a number, or a number for each tensor."""
        if not isinstance(x, Numbers):
            return x if isinstance(x, (list, int, float)) else None
        if any(row.device.type != "cpu" for row in x.rows):
            return x.rows[0] if len(x.rows) == 1 and name in TAKES_TENSOR else None
        numbers = [row.item() for row in x.rows]
        return numbers[0] if len(numbers) == 1 else [numbers[row] for row in self._rows_of]


def _function(name: str) -> Callable[..., list[Tensor]]:
    function: Callable[..., Sequence[Tensor]] = getattr(torch, f"_foreach_{name}")
    return lambda *given: list(function(*given))


def _scalar(x: Any, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")
