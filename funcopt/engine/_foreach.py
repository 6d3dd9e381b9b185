"""A kernel made of torch's `_foreach_` functions: each operation is one launch for many tensors.

For devices where to launch an operation takes longer than the operation. What torch has no such
function for runs tensor by tensor. Nothing here synchronizes with a device.
"""

import math
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


FILLS = {"zeros_like": 0.0, "ones_like": 1.0, "full_like": None}


class RowScalars(NamedTuple):
    """One scalar of every row: 0-d tensors."""

    rows: Sequence[Tensor]


class ForeachKernel:
    """Interprets a lowered graph, each operation over all tensors of its tasks."""

    chunk = sys.maxsize  # a task is a whole tensor

    def __init__(self, lowered: LoweredGraph) -> None:
        self._lowered = lowered
        first = len(lowered.inputs) + lowered.num_scalars
        self._of_squares, self._left_out = _sums_of_squares(lowered, first)
        self._last_use = list(range(first))  # of each value, by index
        for at, call in enumerate(lowered.calls, first):
            self._last_use.append(at)
            for x in (*call.refs, *filter(None, [self._of_squares.get(at)])):
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
            at, refs = len(values), set(call.refs)
            if at in self._left_out:
                values.append(None)
            elif (of := self._of_squares.get(at)) is not None:
                values.append(_sum_of_squares(values[of.at]))
                refs.add(of)
            else:
                values.append(_ForeachCall(call, values, row_of).result())
            for x in refs:
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


def _sums_of_squares(lowered: LoweredGraph, first: int) -> tuple[dict[int, Ref], frozenset[int]]:
    """Which calls are a sum of the squares of a value; and the squares that nothing else needs.

    There is no sum of each tensor of a list, but a norm.
    """
    found: dict[int, Ref] = {}
    uses: dict[int, list[int]] = {ref.at: [-1] for _, ref in lowered.writes}
    uses.update({ref.at: [-1] for ref in lowered.measures})
    for at, call in enumerate(lowered.calls, first):
        for x in call.refs:
            uses.setdefault(x.at, []).append(at)
        summed = call.args[0] if op_name(call.func) == "sum" and len(call.args) == 1 else None
        if not isinstance(summed, Ref) or call.kwargs or summed.at < first:
            continue
        square = lowered.calls[summed.at - first]
        if op_name(square.func) == "square" and not square.kwargs:
            found[at] = square.args[0]
    squares = {lowered.calls[at - first].args[0].at for at in found}
    return found, frozenset(at for at in squares if set(uses[at]) <= found.keys())


def _sum_of_squares(tensors: list[Tensor]) -> list[Tensor]:
    norms = _function("norm")(tensors)
    return _function("mul")(norms, norms)


class _ForeachCall:
    """One call, for all tensors."""

    def __init__(self, call: Call, values: Sequence[Any], row_of: Sequence[int]) -> None:
        self._call, self._values, self._row_of = call, values, row_of
        self._near: dict[Any, Tensor] = {}  # scalars of a row, where the tensors are

    def result(self) -> Any:
        call, name = self._call, op_name(self._call.func)
        args = [self._values[x.at] if isinstance(x, Ref) else x for x in call.args]
        if isinstance(args[0] if args else None, (list, RowScalars)):
            out = self._foreach(name, args, dict(call.kwargs))
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
                    key = (x.at, row, device)
                    if key not in self._near:
                        self._near[key] = _beside(value.rows[row], device)
                    return self._near[key]
                return value[leaf]
            return tuple(map(one, x)) if isinstance(x, tuple) else x

        kwargs = {k: one(v) for k, v in self._call.kwargs}
        out: Tensor = self._call.func(*map(one, self._call.args), **kwargs)
        return out

    def _foreach(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> list[Tensor] | None:
        """The call as a few functions of lists; `None` if torch has none."""
        if name in COMMUTATIVE and len(args) == 2 and isinstance(args[0], RowScalars):
            args = args[::-1]
        if not isinstance(args[0], list) or not args[0][0].is_floating_point():
            return None  # Python numbers would promote it to another dtype than 0-d tensors do
        if name == "clamp":
            bounds = dict(zip(("min", "max"), args[1:], strict=False)) | kwargs
            return self._clamped(args[0], bounds)
        if name in FILLS and not kwargs:
            return _filled(args[0], FILLS[name] if len(args) == 1 else args[1])
        if kwargs:
            return None
        if name == "square":
            return _function("mul")(args[0], args[0])
        if name in ("__rdiv__", "__rtruediv__") and len(args) == 2:
            over = self._operand("mul", args[1])
            return (
                None if over is None else _function("mul")(_function("reciprocal")(args[0]), over)
            )
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

    def _clamped(self, tensors: list[Tensor], bounds: dict[str, Any]) -> list[Tensor] | None:
        given = {k: self._bound(x) for k, x in bounds.items() if x is not None}
        if any(x is None for x in given.values()):
            return None
        for k, bound in given.items():
            tensors = _function(f"clamp_{k}")(tensors, bound)
        return tensors

    def _bound(self, x: Any) -> Any:
        """A number, or a number for each tensor, that is known here."""
        if isinstance(x, Ref):
            x = self._values[x.at]
        return None if isinstance(x, list) else self._operand("clamp", x)

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


def _filled(like: list[Tensor], value: Any) -> list[Tensor] | None:
    """Tensors that are a number everywhere."""
    if not isinstance(value, (int, float)):
        return None
    out = list(map(torch.empty_like, like))
    torch._foreach_zero_(out)  # pyright: ignore[reportPrivateImportUsage]
    if value:
        torch._foreach_add_(out, value)  # pyright: ignore[reportPrivateImportUsage]
    elif math.copysign(1.0, value) < 0:
        torch._foreach_neg_(out)  # pyright: ignore[reportPrivateImportUsage]
    return out


def _beside(scalar: Tensor, device: torch.device | None) -> Tensor:
    """A scalar on the device of the tensors that it meets.

    Some functions take no other, and some copy it and wait. To fill it in is a launch.
    """
    if device is None or scalar.device.type != "cpu" or device.type == "cpu":
        return scalar
    return full(scalar.item(), device, scalar.dtype)


def _scalar(x: Any, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")
