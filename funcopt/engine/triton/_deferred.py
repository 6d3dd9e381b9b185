"""Functions of 0-d tensors on a device, which wait to be made together by one launch.

Step counts, schedules and flags are such tensors: by operations of torch, each function is a
launch.
"""

import array
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..._numerics.scalars import is_plain, is_stand_in, is_wrapped
from .._calls import flatten_args, op_name
from .._graph import EXPONENTS
from .._guards import Guard, ScalarSource, Unsupported, guards_hold
from .._instructions import POWERS
from .._scalar_graph import FACTORIES, ScalarGraph, traced
from .._symbols import ScalarSymbol, Symbol
from ._launch import (
    KINDS,
    TableLaunch,
    function_of,
    is_at_once,
    launch,
    make_pending,
    together,
)
from ._source import scalar_source

NAMES = (
    "__get__ __len__ data_ptr detach dim element_size empty is_complex is_contiguous "
    "is_floating_point numel select size storage_offset stride unbind unsqueeze "
    "untyped_storage view"
)
PASSIVE = frozenset(NAMES.split(" "))
"""Functions that read no entry of a tensor."""


class Argument(NamedTuple):
    """A scalar argument of a call: the input, or the result of an earlier call, at a position."""

    at: int
    kind: Any  # the dtype of a tensor, `int` or `float` of a number
    is_result: bool = False


Call = tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]
"""A function of torch, its arguments and its keywords."""


class Code(NamedTuple):
    """The kernel of some calls."""

    source: str
    scalars: Sequence[ScalarSource]  # that it reads, of the inputs
    guards: Sequence[Guard]


class Deferred:
    """The calls on one device that wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clear()

    def _clear(self) -> None:
        self._calls: list[Call] = []
        self._inputs: list[Any] = []
        self._results: list[Tensor] = []
        self._known: dict[int, Argument] = {}  # by the identity of tensors, which are kept

    def result(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """The result of a call that is made later.

        Raises:
            Unsupported: If it has to be made now.
        """
        name = op_name(func)
        if (name.endswith("_") and not name.endswith("__")) or name == "clone":
            raise Unsupported(f"`{name}`, which is about memory")
        before = len(self._inputs)
        try:
            given = self._encoded(tuple(args), name)
            options = tuple((k, self._encoded(v, name)) for k, v in kwargs.items() if k != "device")
            found = _result_of((func, *_alone((given, options), {})), self._device)
        except Unsupported:
            self._forget(before)
            raise
        if isinstance(found, int):  # one of the arguments, as `to` of the same dtype returns
            returned: Tensor = _tensors(args, kwargs)[found]
            self._forget(before)
            return returned
        made = torch.empty((), dtype=found, device=self._device)
        self._calls.append((func, given, options))
        self._known[id(made)] = Argument(len(self._results), found, True)
        self._results.append(made)
        return made

    def _forget(self, before: int) -> None:
        """Drops the inputs of a call that is not to be made."""
        for x in self._inputs[before:]:
            self._known.pop(id(x), None)
        del self._inputs[before:]

    def _encoded(self, x: Any, name: str) -> Any:
        if isinstance(x, Tensor):
            if id(x) not in self._known:
                if x.dim() or x.dtype not in KINDS or not is_plain(x) or is_wrapped(x):
                    raise Unsupported("a tensor that is no scalar")
                if x.requires_grad and torch.is_grad_enabled():
                    raise Unsupported("a scalar that derivatives are taken by")
                self._known[id(x)] = Argument(len(self._inputs), x.dtype)
                self._inputs.append(x)
            return self._known[id(x)]
        if isinstance(x, (tuple, list)):
            fixed = name in EXPONENTS
            return tuple(
                y if fixed and k and _is_power(y) else self._encoded(y, name)
                for k, y in enumerate(x)
            )
        if type(x) in (int, float):
            self._inputs.append(x)
            return Argument(len(self._inputs) - 1, type(x))
        if x is None or isinstance(x, (bool, torch.dtype)):
            return x
        raise Unsupported("an argument of another kind")

    def make(self) -> None:
        """Launches a kernel of all calls that wait."""
        if not self._calls:
            return
        calls, inputs, made = self._calls, self._inputs, self._results
        self._clear()
        code = _code(tuple(calls), inputs, self._device)
        places = array.array("q", [0 if x.is_meta else x.data_ptr() for x in made])
        rows = [[x.read(inputs, 0) for x in code.scalars]]
        function = function_of(code.source)
        launch(TableLaunch(function, 1, (), places, rows, (), made, True), self._device)


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    return [x for x in flatten_args((tuple(args), dict(kwargs))) if isinstance(x, Tensor)]


def _is_power(x: Any) -> bool:
    return isinstance(x, (int, float)) and x in POWERS


def _alone(x: Any, places: dict[Argument, int]) -> Any:
    """The arguments of a call as if it were the only one."""
    if isinstance(x, Argument):
        return Argument(places.setdefault(x, len(places)), x.kind)
    return tuple(_alone(y, places) for y in x) if isinstance(x, tuple) else x


def _arguments(x: Any) -> list[Argument]:
    """The scalars among arguments, in order."""
    if isinstance(x, Argument):
        return [x]
    return [found for y in x for found in _arguments(y)] if isinstance(x, tuple) else []


_results: dict[Any, torch.dtype | int | None] = {}
_codes: dict[Any, Code] = {}


def _result_of(call: Call, device: torch.device) -> torch.dtype | int:
    """The dtype of what a call returns, or which of its scalar arguments that is.

    Raises:
        Unsupported: If no kernel can make it.
    """
    key = (torch.get_default_dtype(), call)
    if key not in _results:
        try:
            _results[key] = _traced_result(call, device)
        except Unsupported:
            _results[key] = None
    found = _results[key]
    if found is None:
        raise Unsupported(f"`{op_name(call[0])}`, for which there is no instruction")
    return found


def _traced_result(call: Call, device: torch.device) -> torch.dtype | int:
    graph, given = ScalarGraph(device), _arguments(call[1:])
    kinds = {x.at: x.kind for x in given}
    inputs = _symbols(graph, [kinds[k] for k in range(len(kinds))], [1] * len(kinds))
    (result,) = _called(graph, [call], inputs)
    tensors = [inputs[x.at] for x in given if isinstance(inputs[x.at], Symbol)]
    for k, x in enumerate(tensors):
        if x.at == result.at:
            return k
    if result.meta.dtype not in KINDS:
        raise Unsupported(f"a scalar of {result.meta.dtype}")
    graph.listing([result])
    found: torch.dtype = result.meta.dtype
    return found


def _code(calls: tuple[Call, ...], inputs: Sequence[Any], device: torch.device) -> Code:
    """The kernel of calls; what a guard of it says of numbers among the inputs holds."""
    key = (torch.get_default_dtype(), device, calls)
    code = _codes.get(key)
    if code is None or not guards_hold(code.guards, inputs):
        graph = ScalarGraph(device)
        kinds = [x.dtype if isinstance(x, Tensor) else type(x) for x in inputs]
        results = _called(graph, calls, _symbols(graph, kinds, inputs))
        listing, used = graph.listing(results)
        totals, dtypes = [None] * len(used), [x.meta.dtype for x in results]
        source = scalar_source(listing, totals, (), dtypes, "sum", scattered=True)
        code = _codes[key] = Code(source, [graph.sources[at] for at in used], graph.guards)
    return code


def _symbols(graph: ScalarGraph, kinds: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """What functions see of inputs."""

    def one(k: int, kind: Any) -> Any:
        source = ScalarSource(lambda given, i: given[k])
        if isinstance(kind, torch.dtype):
            return graph.tensor(source, kind)
        return ScalarSymbol(kind(values[k]), source, graph.guards)

    return [one(k, kind) for k, kind in enumerate(kinds)]


def _called(graph: ScalarGraph, calls: Sequence[Call], inputs: Sequence[Any]) -> list[Symbol]:
    """The results of calls."""
    results: list[Symbol] = []

    def of(x: Any) -> Any:
        if isinstance(x, Argument):
            return results[x.at] if x.is_result else inputs[x.at]
        return tuple(map(of, x)) if isinstance(x, tuple) else x

    for func, args, kwargs in calls:
        given, options = of(args), {k: of(v) for k, v in kwargs}
        made = traced(graph, functools.partial(func, *given, **options))
        if not isinstance(made, Symbol):
            raise Unsupported("no scalar")
        results.append(made)
    return results


class Deferring(TorchFunctionMode):
    """Within it, functions of scalars on some devices wait; all others see what they have made."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        super().__init__()
        self._waiting = {device: Deferred(device) for device in devices}

    def make(self) -> None:
        """Launches what waits."""
        for one in self._waiting.values():
            one.make()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_at_once() or op_name(func) in PASSIVE:
            return func(*args, **kwargs)
        leaves = flatten_args((args, kwargs))
        if any(is_stand_in(x) for x in leaves):
            return func(*args, **kwargs)
        given = {x.device for x in leaves if isinstance(x, Tensor)}
        near = [device for device in given if device in self._waiting]
        if not given and op_name(func) in FACTORIES:
            device = kwargs.get("device")
            near = [] if device is None else [x for x in self._waiting if x == device]
        if len(near) == 1 and all(x.type == "cpu" or x in near for x in given):
            try:
                return self._waiting[near[0]].result(func, args, kwargs)
            except Unsupported:
                pass
        if given:  # it may read what waits
            make_pending()
        return func(*args, **kwargs)


@contextmanager
def scalars_together(devices: Iterable[torch.device]) -> Iterator[None]:
    """Within it, launches and functions of scalars wait for one another, as long as they can."""
    mode = Deferring(devices)
    with together(mode.make), mode:
        yield
