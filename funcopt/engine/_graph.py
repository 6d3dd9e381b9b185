"""The graph of a step: the operations that a rule does on one tensor, as they are traced."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ._calls import Call, Input, NumberInput, Ref, ScalarInput, flatten_args, op_name
from ._guards import Guard, ScalarSource, Unsupported, constant_source
from ._meta_inference import Inferred, TensorMeta, infer
from ._symbols import ScalarSymbol, Symbol

METADATA_QUERIES = frozenset({"is_floating_point", "is_complex"})

ATTRIBUTES = ("dtype", "device", "layout", "requires_grad", "is_sparse", "is_meta")
"""What may be read of a symbol."""

EXPONENTS = frozenset({"pow", "__pow__", "float_power"})
"""Functions whose second argument is part of the code, as compilers unroll small powers."""

ARITHMETIC = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "true_divide",
        "rsub",
        "__rsub__",
        "__rdiv__",
        "lerp",
        "maximum",
        "minimum",
    ]
)
"""Functions of which an integer argument is a scalar, and no dimension."""

DIVISIONS = frozenset({"div", "true_divide", "__truediv__"})

RESHAPES = frozenset({"reshape", "to", "float", "double"})
"""Functions that may be applied to a reduction, since they commute with adding up its parts."""

SCALINGS = frozenset({"mul", "neg"})
"""Functions of a sum and scalars, for the same reason; not of a maximum."""


class Graph:
    """The operations on one tensor in a step, in the order in which they were traced.

    `compute_dtype` is the dtype of the mathematics, and of the row of scalars. Those are on the
    CPU, or on the `device` of the tensor.
    """

    def __init__(
        self,
        compute_dtype: torch.dtype,
        device: torch.device,
        source_of: Callable[[Tensor, torch.device], ScalarSource | None] | None = None,
    ) -> None:
        self.compute_dtype, self.device = compute_dtype, device
        self.source_of = source_of  # where a flag is read; until all is traced
        self.values: list[Input | ScalarInput | Call] = []
        self.sources: list[ScalarSource] = []  # of every scalar in the row
        self.guards: list[Guard] = []
        self.scales_reduction = False  # whether a reduction was multiplied by a scalar
        self._scalars: dict[Any, Symbol] = {}
        self._with_grad = torch.is_grad_enabled()  # where the update is made

    def input(self, role: int, dtype: torch.dtype, per: int = 1) -> Symbol:
        """A tensor that will be passed in, in its own dtype.

        Where one of its numbers is for several entries, the symbol has it for each of them.
        """
        return self._append(Input(role, dtype, per), TensorMeta(dtype, True))

    def scalar(self, source: ScalarSource, key: Any = None) -> Symbol:
        """A 0-d tensor that will be in the row of scalars; one for each key."""
        if key is not None and key in self._scalars:
            return self._scalars[key]
        self.sources.append(source)
        value = ScalarInput(len(self.sources) - 1)
        symbol = self._append(value, TensorMeta(self.compute_dtype, False))
        if key is not None:
            self._scalars[key] = symbol
        return symbol

    def flag(self, source: ScalarSource) -> Any:
        """A 0-d tensor of bool that will be in the row of scalars."""
        return self.scalar(source) != 0

    def flag_of(self, x: Any) -> Any:
        """The same for a flag that a stage has chosen by.

        Raises:
            Unsupported: If it is none.
        """
        if not isinstance(x, Tensor) or (source := self._source(x)) is None:
            raise Unsupported("a tensor that was not passed to the rule, as a flag")
        return self.flag(source)

    def is_zero_update(self, x: Symbol) -> bool:
        """Whether `x` is minus zero everywhere, so that adding it changes nothing."""
        call = self.values[x.at]
        if not isinstance(call, Call) or call.func is not torch.full_like:
            return False
        fill = call.args[1] if len(call.args) > 1 else None
        return isinstance(fill, float) and fill == 0 and math.copysign(1.0, fill) < 0

    def copied(self, x: Any) -> Any:
        """`x`, but not an input itself, which may be overwritten before it is read.

        The copy is a product with a scalar that is 1, which compilers cannot know: they remove a
        `clone`, and then store the new value of the input (Inductor of torch 2.13).
        """
        if not isinstance(self.values[x.at], Input):
            return x
        if not x.meta.dtype.is_floating_point or self.values[x.at].per > 1:
            raise Unsupported("an integer input that is stored elsewhere")
        return x * self.scalar(constant_source(1.0), ("constant", "1.0"))

    def call_function(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The symbol of what `func` returns; the call is added to the graph."""
        name = op_name(func)
        if name == "__get__":
            return _attribute(func, args)
        if name in METADATA_QUERIES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if (name.endswith("_") and not name.endswith("__")) or "out" in kwargs:
            raise Unsupported(f"`{name}`, which changes a tensor in place")
        given = [x for x in flatten_args((args, kwargs)) if isinstance(x, Symbol)]
        if name == "clone":  # nothing is changed in place
            return given[0]
        if any(x.graph is not self for x in given):
            raise Unsupported(f"`{name}` of tensors of two parameters")
        self._check_reductions(name, given)
        floating = any(x.meta.dtype.is_floating_point for x in given)
        if name in DIVISIONS and floating and len(args) == 2 and not kwargs:
            inverse = _reciprocal(args[1])
            if inverse is not None:
                func, name, args = Tensor.mul, "mul", (args[0], inverse)
        result = Inferred()
        for as_inputs in (True, False):  # scalars as inputs; as constants where tensors cannot be
            traced = self._trace_args((tuple(args), kwargs), as_inputs, floating, name)
            result = infer(func, *_metas(traced))
            if not result.error:
                break
        else:
            raise Unsupported(f"`{name}`: {result.error}")
        symbols = [x for x in flatten_args(traced) if isinstance(x, Symbol)]
        if result.argument is not None:
            return symbols[result.argument]
        assert result.meta is not None
        reduces = any(x.meta.is_vector or x.is_reduction for x in given)
        call = Call(
            func,
            refs_of(traced[0]),
            tuple((k, refs_of(v)) for k, v in traced[1].items()),
        )
        return self._append(call, result.meta, reduces and not result.meta.is_vector)

    def _source(self, x: Tensor) -> ScalarSource | None:
        return None if self.source_of is None else self.source_of(x, self.device)

    def _append(self, value: Any, meta: TensorMeta, is_reduction: bool = False) -> Symbol:
        self.values.append(value)
        symbol: Symbol = meta.example().as_subclass(Symbol)
        symbol.graph, symbol.at, symbol.meta = self, len(self.values) - 1, meta
        symbol.is_reduction = is_reduction
        return symbol

    def _check_reductions(self, name: str, given: Sequence[Symbol]) -> None:
        """Refuses operations on a partial sum that are not the same on the sum of all parts."""
        reductions = [x for x in given if x.is_reduction]
        if not reductions:
            return
        vectors = any(x.meta.is_vector for x in given)
        scales = name in SCALINGS and len(reductions) == 1 and not vectors
        if name not in RESHAPES and not scales:
            raise Unsupported(f"`{name}` of a sum within one tensor")
        self.scales_reduction |= scales

    def _trace_args(self, x: Any, as_inputs: bool, floating: bool, name: str) -> Any:
        """An argument as `func` gets it: scalars that may change are symbols."""
        if isinstance(x, dict):
            return {k: self._trace_args(v, as_inputs, floating, name) for k, v in x.items()}
        if isinstance(x, (tuple, list)):
            keep = name in EXPONENTS
            return tuple(
                v
                if keep and i and isinstance(v, (int, float))
                else self._trace_args(v, as_inputs, floating, name)
                for i, v in enumerate(x)
            )
        if isinstance(x, Symbol):
            return x
        if isinstance(x, ScalarSymbol):
            return self.scalar(x.source, id(x.source)) if as_inputs else _guarded_value(x)
        if isinstance(x, float) or (type(x) is int and name in ARITHMETIC):
            if not as_inputs or not floating:
                return x
            return self.scalar(constant_source(x), ("constant", repr(x)))
        if isinstance(x, Tensor):
            followed = ScalarSource(lambda nodes, i: x.requires_grad and torch.is_grad_enabled())
            self.guards.append(Guard(followed, False))
            if x.requires_grad and self._with_grad:
                raise Unsupported(f"`{name}` of a tensor that derivatives are taken by")
            near = x.device.type == "cpu" or x.device == self.device
            if not x.dim() and near and as_inputs and x.is_floating_point():
                return self.scalar(constant_source(x))
            if as_inputs and (source := self._source(x)) is not None:
                return self.flag(source)
            raise Unsupported(f"`{name}` of a tensor that was not passed to the rule")
        return x


def _attribute(func: Any, args: Sequence[Any]) -> Any:
    name = func.__self__.__name__
    if name not in ATTRIBUTES:
        raise Unsupported(f"`{name}` of a tensor")
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args)


def _reciprocal(x: Any) -> Any:
    """The factor that replaces a division by the scalar `x`: many times as fast."""
    if isinstance(x, ScalarSymbol) and x.guarded(_is_invertible):
        return 1.0 / x  # type: ignore[operator]  # a scalar symbol, too
    return 1 / x if isinstance(x, float) and _is_invertible(x) else None


def _is_invertible(x: float) -> bool:
    """Whether both `x` and its inverse are normal numbers in every compute dtype."""
    return 2.0**-126 <= abs(x) <= 2.0**126


def _guarded_value(x: ScalarSymbol) -> Any:
    return int(x) if isinstance(x.value, int) else float(x)


def _metas(x: Any) -> Any:
    """Arguments in which the metadata stands for a symbol."""
    if isinstance(x, (Symbol, NumberInput)):
        return x.meta
    if isinstance(x, dict):
        return {k: _metas(v) for k, v in x.items()}
    return tuple(map(_metas, x)) if isinstance(x, (tuple, list)) else x


def refs_of(x: Any) -> Any:
    """Arguments in which a `Ref` stands for a symbol."""
    if isinstance(x, (Symbol, NumberInput)):
        return Ref(x.at)
    return tuple(map(refs_of, x)) if isinstance(x, (tuple, list)) else x
