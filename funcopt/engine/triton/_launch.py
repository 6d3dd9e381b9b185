"""Launches of kernels, and the tables of addresses and scalars that they read.

All tables of a step go to the device in one copy, where nothing has to be known in between.
"""

import array
import contextlib
import functools
import hashlib
import importlib.util
import itertools
import linecache
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._numerics.capturing import is_capturing
from ..._numerics.scalars import double
from ._pinned import pinned
from ._source import joined_source

WARPS = 4
BLOCK = 1024
"""Entries that a program works on at once: 8 for each thread, so that all accesses are of 128 bit,
in bfloat16, too."""

KINDS = {torch.float64: 0, torch.float32: 1, torch.int64: 2, torch.bool: 3}
"""The dtypes of scalars on the device: the highest bits of their addresses in a table."""


class TableLaunch(NamedTuple):
    """A launch of a kernel that reads a table."""

    function: Any
    programs: int  # the size of its grid
    before: Sequence[Any]  # arguments before the table
    pointers: "array.array[int]"  # addresses of tensors: the table begins with them
    rows: Sequence[Sequence[Any]]  # scalars, of the host or on the device: their addresses follow
    after: Sequence[Any]  # arguments after the table
    writes: Sequence[Tensor]  # what it makes for other launches of the step; else there are results
    joins: bool = False  # whether it works on scalars, and may be a part of another such launch


class TableLaunches:
    """Launches on one device, in order, whose tables go there together."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._calls: list[tuple[TableLaunch, int]] = []  # and where the table of each begins
        self._table = array.array("q")
        self._own: list[int] = []  # where addresses of scalars in the table itself are to be put
        self._values = array.array("d")
        self._kept: list[Any] = []  # tensors whose addresses are in the table

    def add(self, call: TableLaunch) -> None:
        """Adds one."""
        self._calls.append((call, len(self._table)))
        self._table.extend(call.pointers)
        for row in call.rows:
            for x in row:
                if isinstance(x, Tensor) and x.device == self._device:
                    x = (
                        x if x.dtype in KINDS else double(x)
                    )  # not read here: it would be waited for
                    self._kept.append(x)
                    address = 0 if x.is_meta else x.data_ptr()
                    self._table.append(address | KINDS[x.dtype] << 60)
                else:
                    self._own.append(len(self._table))
                    self._table.append(8 * len(self._values))
                    self._values.append(float(x))

    def make(self) -> None:
        """Copies the tables, and launches all of them, on the current stream."""
        calls, self._calls = self._calls, []
        size = len(self._table)
        device = self._device
        table = torch.empty(size + len(self._values), dtype=torch.int64, device=device)
        behind = (0 if table.is_meta else table.data_ptr()) + 8 * size
        for at in self._own:
            self._table[at] += behind
        self._table.frombytes(self._values.tobytes())
        _upload(self._table, table)
        for some in arranged(calls):
            placed = [(call, table[begin:]) for call, begin in some]
            _run(*(placed[0] if len(placed) == 1 else joined(placed)), device)
        self._table, self._own, self._values = array.array("q"), [], array.array("d")
        self._kept.clear()


def _upload(host: "array.array[int]", to: Tensor) -> None:
    """Copies numbers to a device, without waiting for that."""
    if not host:
        return
    given = torch.frombuffer(host, dtype=torch.int64)
    if to.device.type not in ("cpu", "meta"):
        given = pinned(given, to.device)
    to.copy_(given, non_blocking=True)


class Sent:
    """Numbers that every step needs on a device: they go there once, for each stream."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = array.array("q", numbers)
        self._copies: dict[Any, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """Where work of the current stream finds them."""
        if is_capturing(device):  # what is copied there belongs to that graph
            before = (x for (place, _), x in self._copies.items() if place == device)
            found = next(before, None)
            return self._copy(device) if found is None else found
        key = (device, _stream(device))
        if key not in self._copies:
            self._copies[key] = self._copy(device)
        return self._copies[key]

    def _copy(self, device: torch.device) -> Tensor:
        to = torch.empty(len(self._numbers), dtype=torch.int64, device=device)
        _upload(self._numbers, to)
        return to


def _stream(device: torch.device) -> Any:
    if device.type in ("cpu", "meta"):
        return None
    return torch.get_device_module(device).current_stream(device)


def _run(call: TableLaunch, table: Tensor, device: torch.device) -> None:
    """Launches a kernel; for "meta", a test counts it."""
    if device.type != "meta":
        with on(device):
            call.function[(call.programs,)](*call.before, table, *call.after, **options())


MOST = 16
"""Launches of scalars that become one: what is compiled for them grows with their number."""

Placed = tuple[TableLaunch, int]
"""A launch, and where its table begins."""


def arranged(calls: Sequence[Placed]) -> Iterator[list[Placed]]:
    """The launches in an order in which they can be made; those that come together are one.

    Launches of scalars wait until something reads what they make, or results are written.
    """
    waiting: list[Placed] = []
    for one in calls:
        call, _ = one
        if call.joins and call.programs == 1:
            waiting.append(one)
            if len(waiting) == MOST:
                yield waiting
                waiting = []
            continue
        if waiting and not (call.writes and _apart(call, waiting)):
            yield waiting
            waiting = []
        yield [one]
    if waiting:
        yield waiting


def _apart(call: TableLaunch, waiting: Sequence[Placed]) -> bool:
    """Whether a launch reads nothing that those make which wait."""
    made = {_storage(x) for other, _ in waiting for x in other.writes}
    read = itertools.chain(call.before, *call.rows)
    return not any(isinstance(x, Tensor) and _storage(x) in made for x in read)


def _storage(x: Tensor) -> int:
    place: int = x.untyped_storage()._cdata
    return place


def joined(placed: Sequence[tuple[TableLaunch, Tensor]]) -> tuple[TableLaunch, Tensor]:
    """Launches of scalars as one, which runs them one after another, and the table of the last."""
    calls = [call for call, _ in placed]
    counts = tuple(len(call.before) + 1 + len(call.after) for call in calls)
    function = function_of(joined_source(counts), *(call.function for call in calls))
    given = [x for call, table in placed for x in (*call.before, table, *call.after)]
    last, table = placed[-1]
    before = given[: len(given) - 1 - len(last.after)]
    writes = [x for call in calls for x in call.writes]
    return TableLaunch(function, 1, before, last.pointers, (), last.after, writes), table


class _Pending(threading.local):
    calls: dict[torch.device, TableLaunches] | None = None  # where they wait for one another
    first: Callable[[], None] | None = None  # adds what has to come before another launch
    at_once = False  # whether functions of torch are made when they are called


_pending = _Pending()


def launch(call: TableLaunch, device: torch.device) -> None:
    """Launches a kernel on a device, or lets it wait for others, for the table of all of them."""
    if _pending.first is not None:
        _pending.first()
    waiting = _pending.calls
    if waiting is None:
        calls = TableLaunches(device)
        calls.add(call)
        calls.make()
        return
    if device not in waiting:
        waiting[device] = TableLaunches(device)
    waiting[device].add(call)


@contextlib.contextmanager
def together(first: Callable[[], None] | None = None) -> Iterator[None]:
    """Within it, launches wait for one another.

    Nothing may read what they make before `make_pending`. `first` is called before each launch: it
    may add some.
    """
    before = _pending.calls, _pending.first
    _pending.calls, _pending.first = {}, first
    try:
        yield
        make_pending()
    finally:
        _pending.calls, _pending.first = before


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Within it, functions of torch see what all launches before have made, and do not wait."""
    make_pending()
    before, _pending.at_once = _pending.at_once, True
    try:
        yield
    finally:
        _pending.at_once = before


def is_at_once() -> bool:
    """Whether it is so."""
    return _pending.at_once


def is_deferring() -> bool:
    """Whether functions of torch may wait."""
    return _pending.first is not None


def make_pending() -> None:
    """Makes the launches that wait."""
    if _pending.first is not None:
        _pending.first()
    if _pending.calls:
        waiting, _pending.calls = _pending.calls, {}
        for calls in waiting.values():
            calls.make()


def options() -> dict[str, Any]:
    """How kernels are compiled: products and sums are rounded each, as by operations of torch."""
    return {"BLOCK": BLOCK, "num_warps": WARPS, "enable_fp_fusion": False}


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the tensors say."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any]
    context = torch.get_device_module(device).device(device)
    return context


def is_available(device: torch.device) -> bool:
    """Whether there are kernels for a device."""
    asked = os.environ.get("FUNCOPT_KERNELS") == "triton"  # by tests: the interpreter, or "meta"
    return (asked or device.type in ("cuda", "xpu")) and (
        importlib.util.find_spec("triton") is not None
    )


def is_interpreted() -> bool:
    """Whether kernels are interpreted, on tensors of the CPU."""
    interpret: bool = importlib.import_module("triton").knobs.runtime.interpret
    return interpret


@functools.cache
def function_of(source: str, *kernels: Any) -> Any:
    """The kernel of a source, which may call others. Triton keeps on disk what it compiles."""
    name = f"<funcopt kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    modules = (importlib.import_module(f".{x}", __package__) for x in ("_functions", "_storage"))
    found = {**dict(item for one in modules for item in vars(one).items()), "__name__": __name__}
    found.update((f"kernel{k}", kernel) for k, kernel in enumerate(kernels))
    exec(compile(source, name, "exec"), found)
    return found["kernel"]
