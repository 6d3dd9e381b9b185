"""A kernel made of torch's `_foreach_` functions: each operation is one launch for many tensors.

For devices where to launch an operation takes longer than the operation. What torch has no such
function for runs tensor by tensor. Nothing here synchronizes with a device.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._numerics.scalars import double, full
from ._blocks import Block, Tasks, as_vector
from ._calls import Call, Ref, op_name
from ._lowering import LoweredGraph

NAMES = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p "
    "log2 neg reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
)
UNARY = frozenset(NAMES.split(" "))
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
COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum"})
TAKES_TENSOR = frozenset({"mul", "div"})
"""Functions of a list and of one scalar that is on the device."""


class RowScalars(NamedTuple):
    """One scalar of every row: 0-d tensors."""

    rows: Sequence[Tensor]


class ForeachKernel:
    """Interprets a lowered graph, each operation over all tensors of its tasks."""

    chunk = sys.maxsize  # a task is a whole tensor

    def __init__(self, lowered: LoweredGraph) -> None:
        self._lowered = lowered
        first = len(lowered.inputs) + lowered.num_scalars
        self._last_use = list(range(first))  # of each value, by index
        for at, call in enumerate(lowered.calls, first):
            self._last_use.append(at)
            for x in call.refs:
                self._last_use[x.at] = at
        for ref in (*(ref for _, ref in lowered.writes), *lowered.measures):
            self._last_use[ref.at] = sys.maxsize

    def __call__(
        self, block: Block, tasks: Tasks, roles: tuple[int, ...], rows: Sequence[Sequence[Any]]
    ) -> Tensor | None:
        if not tasks.count:
            return no_measures(self._lowered, block.device)
        leaves, row_of = zip(*((leaf, row) for leaf, _, _, row in tasks), strict=True)
        lowered = self._lowered
        given = [[as_vector(block.columns[role][leaf]) for leaf in leaves] for role in roles]
        by_leaf = [lowered.for_entries(tensors) for tensors in zip(*given, strict=True)]
        values: list[Any] = list(map(list, zip(*by_leaf, strict=True)))
        for k in range(lowered.num_scalars):
            values.append(RowScalars([_scalar(row[k], lowered.compute_dtype) for row in rows]))
        for call in lowered.calls:
            values.append(_ForeachCall(call, values, row_of).result())
            for x in set(call.refs):
                if self._last_use[x.at] == len(values) - 1:
                    values[x.at] = None  # its memory can be used again
        for at, ref in lowered.writes:
            new = list(map(lowered.inputs[at].shared, values[ref.at]))
            own = list(map(lowered.inputs[at].begin_of, given[at], new))
            torch._foreach_copy_(own, new)  # pyright: ignore[reportPrivateImportUsage]
        if not lowered.measures:
            return None
        columns = [torch.stack(values[ref.at]) for ref in lowered.measures]
        return double(torch.stack(columns, 1))


def no_measures(lowered: LoweredGraph, device: torch.device) -> Tensor | None:
    """What a kernel that has measures returns where there is no entry."""
    count = len(lowered.measures)
    return double(torch.empty(0, count, device=device)) if count else None


class _ForeachCall:
    """One call, for all tensors."""

    def __init__(self, call: Call, values: Sequence[Any], row_of: Sequence[int]) -> None:
        self._call, self._values, self._row_of = call, values, row_of

    def result(self) -> Any:
        call, name = self._call, op_name(self._call.func)
        args = [self._values[x.at] if isinstance(x, Ref) else x for x in call.args]
        if not call.kwargs and isinstance(args[0] if args else None, (list, RowScalars)):
            out = self._foreach(name, args)
            if out is not None:
                return out
        if not any(isinstance(self._values[x.at], list) for x in call.refs):
            count = max(len(self._values[x.at].rows) for x in call.refs)
            return RowScalars([self._single(row, row) for row in range(count)])
        return [self._single(leaf, row) for leaf, row in enumerate(self._row_of)]

    def _single(self, leaf: int, row: int) -> Tensor:
        """The call for one tensor."""
        lists = (self._values[x.at] for x in self._call.refs)
        device = next((x[leaf].device for x in lists if isinstance(x, list)), None)

        def one(x: Any) -> Any:
            if isinstance(x, Ref):
                value = self._values[x.at]
                if isinstance(value, RowScalars):
                    return _beside(value.rows[row], device)
                return value[leaf]
            return tuple(map(one, x)) if isinstance(x, tuple) else x

        kwargs = {k: one(v) for k, v in self._call.kwargs}
        out: Tensor = self._call.func(*map(one, self._call.args), **kwargs)
        return out

    def _foreach(self, name: str, args: list[Any]) -> list[Tensor] | None:
        """The call as one function of lists; `None` if torch has none."""
        if name in COMMUTATIVE and len(args) == 2 and isinstance(args[0], RowScalars):
            args = args[::-1]
        if not isinstance(args[0], list) or not args[0][0].is_floating_point():
            return None  # Python numbers would promote it to another dtype than 0-d tensors do
        if name == "to" and len(args) == 2 and isinstance(args[1], torch.dtype):
            out = [torch.empty_like(x, dtype=args[1]) for x in args[0]]
            torch._foreach_copy_(out, args[0])  # pyright: ignore[reportPrivateImportUsage]
            return out
        if name in UNARY and len(args) == 1:
            return _function(name)(args[0])
        if name in BINARY and len(args) == 2:
            other = self._operand(BINARY[name], args[1])
            return None if other is None else _function(BINARY[name])(args[0], other)
        if name == "lerp" and len(args) == 3 and isinstance(args[1], list):
            weight = self._operand(name, args[2])
            return None if weight is None else _function(name)(args[0], args[1], weight)
        return None

    def _operand(self, name: str, x: Any) -> Any:
        """An operand of a function of lists: tensors, a number, or a number for each tensor."""
        if not isinstance(x, RowScalars):
            return x if isinstance(x, (list, int, float)) else None
        if any(row.device.type != "cpu" for row in x.rows):
            return x.rows[0] if len(x.rows) == 1 and name in TAKES_TENSOR else None
        numbers = [row.item() for row in x.rows]
        return numbers[0] if len(numbers) == 1 else [numbers[row] for row in self._row_of]


def _function(name: str) -> Callable[..., list[Tensor]]:
    function: Callable[..., Sequence[Tensor]] = getattr(torch, f"_foreach_{name}")
    return lambda *given: list(function(*given))


def _beside(scalar: Tensor, device: torch.device | None) -> Tensor:
    """A scalar on the device of the tensors that it meets.

    Some functions take no other, and some copy it and wait. To fill it in is a launch.
    """
    if device is None or scalar.device.type != "cpu" or device.type == "cpu":
        return scalar
    return full(scalar.item(), device, scalar.dtype)


def _scalar(x: Any, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")
