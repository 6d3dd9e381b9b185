"""The guard of a ready step: all that it relies on, compared by one call of machine code."""

import array
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ._guards import Unsupported
from ._ready_call import Words, objects, repeats_steps
from ._tensor_guard import dynamo_check


class ContentsGuard:
    """Dicts and sequences that hold the same objects as now, under the same keys, in this order.

    Where a sequence is neither a list nor a tuple, they never do: it cannot be told.
    """

    def __init__(self, dicts: Sequence[dict[Any, Any]], sequences: Sequence[Sequence[Any]]) -> None:
        if not repeats_steps():
            raise Unsupported("there is no machine code that repeats steps")
        lists = [x for x in sequences if isinstance(x, list)]
        self._dicts, self._lists = list(dicts), lists
        self._pairs = [x for one in dicts for pair in one.items() for x in pair]
        self._items = [x for one in lists for x in one]
        self._held, of = objects([*self._pairs, *self._items]), (objects(dicts), objects(lists))
        self.words = Words(of[0], len(dicts), of[1], len(lists), self._held, len(self._held))
        self._changed: list[tuple[int, Any]] = []
        self._places: dict[tuple[int, Any], int] = {}  # of values among the pairs
        seen = all(isinstance(x, (list, tuple)) for x in sequences)
        self.holds = self.words.call("same") if seen else bool

    def changes(self) -> list[tuple[int, Any, Any]] | None:
        """Values that dicts hold instead: which dict, key and value; `None` if it is more."""
        found, at, held, self._changed = [], 0, self._pairs, []
        if sum(map(len, self._dicts)) * 2 != len(held):
            return None
        for k, one in enumerate(self._dicts):
            for key, value in one.items():
                if held[at] is not key:
                    return None
                if held[at + 1] is not value:
                    found.append((k, key, value))
                    self._changed.append((at + 1, value))
                at += 2
        return found

    def put(self, which: int, key: Any, value: Any) -> None:
        """From now on, a dict is to hold this value, which it has been given."""
        if (which, key) not in self._places:
            begin = 2 * sum(map(len, self._dicts[:which]))
            self._places[which, key] = begin + 2 * list(self._dicts[which]).index(key) + 1
        at = self._places[which, key]
        self._pairs[at], self._held[at] = value, id(value)

    def take_over(self) -> None:
        """From now on, the changes that were found are what is to be held."""
        for at, value in self._changed:
            self._pairs[at], self._held[at] = value, id(value)
        self._changed = []


PLACES = 15
"""Where the places of gradients stand among the words of a guard."""


def place_words(places: Sequence[tuple[int, int]]) -> tuple[Any, Any, int]:
    """Places of addresses, and which tensor's each of them is, as machine code reads them."""
    to, which = (array.array("q", [place[k] for place in places]) for k in range(2))
    return to, which, len(places)


class ReadyGuard:
    """Whether a step is like the one before; and its gradients, whose addresses it passes on.

    Args:
        dicts: Those that have to hold what they do now.
        params: All parameters, each once, and their gradients: what has one, has to have one.
        beside: Tensors whose metadata has to be the same, as that of the gradients.
        fixed: Tensors that have to begin where they do.
        clock: Numbers side by side, that have to be as this object has left them.
        address: Where these stand.
        columns: Other such numbers, and where they stand. They are all the same.
        words: What each column is to be after the step.

    Raises:
        Unsupported: If there is no machine code for that.
    """

    def __init__(
        self,
        dicts: Sequence[dict[Any, Any]],
        params: Sequence[Tensor],
        beside: Sequence[Tensor],
        fixed: Sequence[Tensor],
        clock: "array.array[Any]",
        address: int,
        columns: "Sequence[tuple[array.array[Any], int]]",
        words: "array.array[int]",
    ) -> None:
        contents = ContentsGuard(dicts, [])
        have_grad = array.array("q", [p.grad is not None for p in params])
        gs = [p.grad for p in params if p.grad is not None]
        check = dynamo_check([*beside, *gs])
        if check is None:
            raise Unsupported("tensors whose metadata torch does not compare")
        self._kept = (contents, list(params), check, list(beside), list(fixed))
        self.clock, self.columns = clock, [x for x, _ in columns]
        table = [(at, x.buffer_info()[0], len(x)) for x, at in columns]
        begins = array.array("q", [x.data_ptr() for x in fixed])
        self._words = Words(
            contents.words,
            *(objects(params), have_grad, len(params), len(gs)),
            *(id(check), objects(beside), len(beside)),
            *(objects(fixed), begins, len(fixed)),
            *(address, clock, len(clock), ord(clock.typecode)),
            *(0, 0, 0),
            *(array.array("q", [0] * len(gs)), 0),
            *(array.array("q", [x for column in table for x in column]), words, len(table)),
        )
        self.load, self.release = self._words.call("load"), self._words.call("release")
        self.count = self._words.call("count")

    def pass_on_to(self, places: Sequence[tuple[int, int]]) -> None:
        """Writes addresses of gradients to these places in each step: address, and which one."""
        self._words.replace(PLACES, *place_words(places))
