"""A log of calls: the functions of torch that a rule calls on whole tensors, noted in one step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ._calls import Ref, op_name
from ._guards import ScalarSource, Unsupported
from ._symbols import ScalarSymbol

METADATA = frozenset(
    ["size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "__len__"]
) | {"is_contiguous", "is_floating_point", "is_complex", "is_same_size", "get_device"}
"""Methods that tell nothing of entries."""

OF_METADATA = frozenset(
    ["shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_sparse", "is_meta"]
) | {"is_cpu", "is_cuda", "is_leaf", "itemsize", "nbytes", "is_nested", "is_quantized"}
"""Attributes of the same kind."""


class Value(NamedTuple):
    """A tensor that is given, or that a call returns."""

    shape: torch.Size
    dtype: torch.dtype
    call: "NotedCall | Item | None"  # `None` of what is given


class NotedCall(NamedTuple):
    """A function of torch with its arguments: a `Ref` stands for a tensor."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def refs(self) -> list[int]:
        """The values that it needs."""
        found: list[int] = []
        map_args((self.args, self.kwargs), lambda x: found.append(x.at) if type(x) is Ref else None)
        return found


class Item(NamedTuple):
    """One of several tensors that a call returns."""

    of: int  # a value
    key: int

    @property
    def refs(self) -> list[int]:
        """The values that it needs."""
        return [self.of]


class CallLog(TorchFunctionMode):
    """Within it calls are made, and noted.

    Raises:
        Unsupported: If a call reads entries, changes them in place, or takes tensors that are
            not known: what follows may be other calls in another step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Value] = []
        self._at: dict[int, int] = {}  # by the identity of a tensor, which is kept alive
        self._kept: list[Any] = []

    def given(self, x: Tensor) -> Tensor:
        """What a rule gets for a tensor: an object of its own, though one may be given twice."""
        x = x.detach()
        self._note(x, None)
        return x

    def of(self, x: Any) -> int:
        """The number of a known tensor."""
        if not isinstance(x, Tensor) or id(x) not in self._at:
            raise Unsupported("a tensor that was not passed to the rule")
        return self._at[id(x)]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, op_name(func)
        if name == "__get__" and func.__self__.__name__ in OF_METADATA:
            return func(*args, **kwargs)
        if name in METADATA:
            return func(*args, **kwargs)
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place or name in ("__setitem__", "__set__") or kwargs.get("out") is not None:
            raise Unsupported(f"`{name}`, which changes a tensor in place")
        call = NotedCall(func, map_args(args, self._noted), map_args(kwargs, self._noted))
        made = func(*map_args(args, _value), **map_args(kwargs, _value))
        if isinstance(made, Tensor):
            self._note(made, call)
        elif isinstance(made, (tuple, list)) and all(isinstance(x, Tensor) for x in made):
            at = len(self.values)
            self._kept.append(made)
            self.values.append(Value(torch.Size(), torch.bool, call))
            for key, x in enumerate(made):
                self._note(x, Item(at, key))
        else:
            raise Unsupported(f"`{name}`, which reads a tensor")
        return made

    def _note(self, x: Tensor, call: NotedCall | Item | None) -> None:
        if id(x) not in self._at:  # a function may return its argument
            self._at[id(x)] = len(self.values)
            self._kept.append(x)
            self.values.append(Value(x.shape, x.dtype, call))

    def _noted(self, x: Any) -> Any:
        return Ref(self.of(x)) if isinstance(x, Tensor) else x


def map_args(x: Any, function: Callable[[Any], Any]) -> Any:
    """Arguments, with `function` of each leaf."""
    if isinstance(x, Mapping):
        return {k: map_args(v, function) for k, v in x.items()}
    if isinstance(x, (tuple, list)) and not isinstance(x, Ref):
        return (list if isinstance(x, list) else tuple)(map_args(v, function) for v in x)
    return function(x)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, ScalarSymbol) else x


def resolved(x: Any, values: Sequence[Any], given: Any) -> Any:
    """Arguments in another step: with its tensors, and its scalars."""
    kind = type(x)
    if kind is Ref:
        return values[x.at]
    if kind is ScalarSymbol:
        return read(x.source, given)
    if kind is tuple or kind is list:
        return kind(resolved(y, values, given) for y in x)
    return {k: resolved(y, values, given) for k, y in x.items()} if kind is dict else x


def read(source: ScalarSource, given: Any) -> Any:
    """A scalar of what is given."""
    return source.read(given, 0)
