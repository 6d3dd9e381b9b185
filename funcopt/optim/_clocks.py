"""The numbers in the state of many parameters: read and advanced all at once."""

import array
import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from .._numerics.capturing import is_capturing
from .._numerics.scalars import moved, number
from ..engine import addresses

EXACT = 2**24
"""The number from which on float32 does not count."""

LETTERS = {torch.float32: "f", torch.float64: "d", torch.int64: "q"}


class StateColumn:
    """One entry of the state of many parameters; as a vector, if it lies in memory as one.

    A vector is read and counted up without torch, where one operation takes longer than all else
    that a small step does to its clocks.
    """

    def __init__(self, tensors: list[Tensor], rows: list[int]) -> None:
        self.tensors, self.rows = tensors, rows
        self._locate()
        self._snapshot = self._read()
        narrow = (x for x in tensors if x.dtype == torch.float32)  # the others count on
        self.room: float = min(map(_room, narrow), default=math.inf)
        """How many steps clocks may still count before they have to go on in float64."""

    def _locate(self) -> None:
        self._vector = _vector(self.tensors)
        devices = dict.fromkeys(x.device for x in self.tensors)
        self._by_device = [[x for x in self.tensors if x.device == one] for one in devices]
        if self._vector is not None:
            self._addresses = addresses(self.tensors)
            self._bytes = _bytes(self._vector)

    def _read(self) -> Any:
        if self._vector is not None and addresses(self.tensors) != self._addresses:
            self._locate()  # they were moved, as `share_memory_` does
        if self._vector is None:
            return [clock_key(x) for x in self.tensors]
        return bytes(self._bytes)

    def unchanged(self) -> bool:
        """Whether nothing has been written here but by this column."""
        return bool(self._read() == self._snapshot)

    def numbers(self) -> Sequence[Any]:
        """The numbers, or, where they cannot be read, the tensors."""
        if self._vector is None:
            return list(map(number, self.tensors))
        return array.array(LETTERS[self._vector.dtype], self._snapshot)

    def add(self, made: Any) -> None:
        """Counts the updates that a step has made: 1, or a tensor that is 1 or 0."""
        self.room -= 1
        if self._vector is None:
            known = list(map(_known, self.tensors))
            for tensors in self._by_device:  # a launch for each
                more = _on(tensors[0].device, made)
                given = [more] * len(tensors) if isinstance(more, Tensor) else more
                torch._foreach_add_(tensors, given)  # pyright: ignore[reportPrivateImportUsage]
            known_after = _known_after(made)
            for x, value in zip(self.tensors, known, strict=True):
                note(x, value and known_after(value))
            self._snapshot = self._read()
            return
        if not int(made):
            return
        letter, count, size = LETTERS[self._vector.dtype], len(self.rows), self._vector.itemsize
        if self._snapshot == self._snapshot[:size] * count:  # all the same, as nearly always
            first = array.array(letter, self._snapshot[:size])[0]
            after = array.array(letter, (first + 1,)) * count
        else:
            after = array.array(letter, [x + 1 for x in self.numbers()])
        self._snapshot = self._bytes[:] = after.tobytes()

    def one_number(self, tensors: int) -> int | float | None:
        """The number that stands here once for each of so many tensors, whole or in float64."""
        if self._vector is None or self._vector.dtype not in (torch.int64, torch.float64):
            return None
        size, letter = self._vector.itemsize, LETTERS[self._vector.dtype]
        first = self._snapshot[:size]
        is_one = len(self.rows) == tensors and self._snapshot == first * tensors
        return array.array(letter, first)[0] if is_one else None

    def lend(self) -> "tuple[array.array[Any], int] | None":
        """The numbers, and where they stand, for whoever counts in its place until `take_back`.

        `None` if they are no vector.
        """
        if self._vector is None:
            return None
        return array.array(LETTERS[self._vector.dtype], self._snapshot), self._vector.data_ptr()

    def take_back(self, numbers: "array.array[Any]", made: int) -> None:
        """Goes on from the numbers that were left after so many steps."""
        self._snapshot, self.room = numbers.tobytes(), self.room - made

    def fill(self, values: Sequence[Tensor]) -> None:
        self.room -= 1
        first = values[0]
        if self._vector is not None and all(x is first for x in values):
            self._vector.fill_(first) if first.dim() == 0 else self._vector.copy_(first)
        else:
            each = zip(self.tensors, values, strict=True)
            written = [(x, value) for x, value in each if x is not value]
            if written:
                tensors, given = map(list, zip(*written, strict=True))
                torch._foreach_copy_(tensors, given)  # pyright: ignore[reportPrivateImportUsage]
            note_filled(*written)
        self._snapshot = self._read()


def counting(clock: Tensor) -> Tensor:
    """A clock that counts on: the same, or one in float64 where float32 would stop counting."""
    return clock.double() if clock.dtype == torch.float32 and _room(clock) <= 0 else clock


def latest(clocks: Sequence[Tensor]) -> Tensor:
    """The greatest of some counts. Those on a device are not read."""
    if all(map(_on_host, clocks)):
        return max(clocks, key=float)
    distinct = list({clock_key(x): x for x in clocks}.values())
    if len(distinct) == 1:
        return distinct[0]
    device = next(x.device for x in distinct if not _on_host(x))
    wide = functools.reduce(torch.promote_types, (x.dtype for x in distinct))
    return torch.stack([moved(x, device).to(wide) for x in distinct]).amax()


def _room(clock: Tensor) -> float:
    """How far it may count on in float32; of one that cannot be read, this is not known."""
    value = number(clock)
    return EXACT if isinstance(value, Tensor) else EXACT - value


def packed_in_vector(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers side by side in memory, so that one operation advances them all.

    Each has a storage of its own, of this one number: so what is kept, copied or saved of one
    parameter is no vector of all.
    """
    first = tensors[0]
    if not all(_can_be_packed(x) and x.dtype == first.dtype for x in tensors):
        return [x.clone() for x in tensors]  # one of all parameters becomes each one's own
    vector, size = torch.stack(list(tensors)), first.element_size()
    memory = bytearray(_bytes(vector))
    return [
        torch.frombuffer(memory, dtype=first.dtype, count=1, offset=i * size).squeeze_(0)
        for i in range(len(tensors))
    ]


def _can_be_packed(x: Tensor) -> bool:
    return type(x) is Tensor and x.dim() == 0 and x.device.type == "cpu" and not x.requires_grad


def _vector(tensors: Sequence[Tensor]) -> Tensor | None:
    """The vector that these 0-d tensors are in memory, side by side and in this order.

    It is valid for as long as they are.
    """
    first = tensors[0]
    if first.dim() or first.device.type != "cpu" or type(first) is not Tensor:
        return None
    if first.dtype not in LETTERS:
        return None
    begin, size = first.data_ptr(), first.element_size()
    for i, x in enumerate(tensors):
        if x.dim() or x.dtype != first.dtype or x.device.type != "cpu":
            return None
        if x.data_ptr() != begin + i * size:
            return None
    return torch.frombuffer(_memory(begin, len(tensors) * size), dtype=first.dtype)


def _bytes(vector: Tensor) -> memoryview:
    """The memory of a vector, for as long as that is held."""
    return memoryview(_memory(vector.data_ptr(), vector.numel() * vector.element_size())).cast("B")


def _memory(begin: int, size: int) -> "ctypes.Array[ctypes.c_char]":
    return (ctypes.c_char * size).from_address(begin)


class Known(NamedTuple):
    """What is known of a number on a device without a look: equal ones have the same value."""

    origin: Any
    since: int = 0  # how often 1 was added


_noted = WeakIdKeyDictionary()  # by tensor: its version, and what is known of it then


def counted(clock: Tensor, made: Any) -> Tensor:
    """A count after the updates that a step has made."""
    after: Tensor = clock + _on(clock.device, made)
    return after


def _on(device: torch.device, made: Any) -> Any:
    return moved(made, device) if isinstance(made, Tensor) else made


def _known_after(made: Any) -> Callable[[Known], Known]:
    """What is known of counts after a step, in terms of what was known before it."""
    if not isinstance(made, Tensor):
        return lambda known: known._replace(since=known.since + 1)
    # Those that were equal are, but not to others, which may have missed more than this step.
    origins: dict[Known, object] = {}
    return lambda known: Known(origins.setdefault(known, object()))


def note(x: Tensor, known: Known | None) -> None:
    """Notes what is known of a number on a device, until it is written otherwise."""
    if known is not None and not _on_host(x):
        _noted[x] = (x._version, known)


def forget_known(x: Tensor) -> None:
    """Drops what is known of a number on a device: it is read when it is asked for."""
    _noted.pop(x, None)  # type: ignore[no-untyped-call]


def note_filled(*written: tuple[Tensor, Tensor]) -> None:
    """Notes that numbers have the values of others: the same, where it is the same tensor."""
    origins: dict[int, object] = {}
    for x, value in written:
        note(x, Known(origins.setdefault(id(value), object())))


def _known(x: Tensor) -> Known | None:
    found: tuple[int, Known] | None = _noted.get(x)  # type: ignore[no-untyped-call]
    return found[1] if found is not None and found[0] == x._version else None


def _on_host(x: Tensor) -> bool:
    return x.device.type == "cpu"


def look_once(scalars: Sequence[Tensor]) -> None:
    """Reads those numbers on a device of which nothing is known: as after a checkpoint."""
    unknown = [x for x in scalars if not (x.is_meta or _on_host(x) or _known(x))]
    if unknown and not is_capturing(unknown[0].device):
        values = torch.stack([x.to(unknown[0].device, torch.float64) for x in unknown]).tolist()
        for x, value in zip(unknown, values, strict=True):
            note(x, Known((x.dtype, value)))


def clock_key(scalar: Tensor) -> Any:
    """What tells clocks apart: their number, or what is known of it, or their identity."""
    value = number(scalar)
    return (_known(scalar) or id(scalar)) if isinstance(value, Tensor) else value
