"""Hyperparameters that change while a step is repeated: a recorded step is given them as numbers.

A scheduler sets a learning rate before every step. What has changed once is no constant of the
program any more, but read from an array.
"""

import array
from collections.abc import Sequence
from typing import Any

from .._core.record import unchecked
from .._core.tensor_rule import GradientTransformation, PerTensor
from ..combinators import FieldPath, with_fields
from ._guards import Unsupported
from ._noted_numbers import Notes, Number
from ._structure import same_field


def changed_values(
    before: GradientTransformation, now: GradientTransformation
) -> set[FieldPath] | None:
    """The hyperparameters of which two transformations have other values.

    Returns:
        Their fields; `None` if they differ in more.
    """
    found: set[FieldPath] = set()
    return found if _collect(before, now, (), found) else None


def _collect(a: Any, b: Any, path: tuple[str, ...], found: set[FieldPath]) -> bool:
    if a is b:
        return True
    fields, others = vars(a), vars(b)
    if type(a) is not type(b) or fields.keys() != others.keys():
        return False
    for name, value in fields.items():
        if value is others[name]:
            continue
        if name in a.hyperparameters:
            if not _is_same(value, others[name]):
                found.add((path, name))
        elif not same_field(value, others[name]):
            return False
    mine, theirs = a.children(), b.children()
    return all(_collect(x, theirs[key], (*path, key), found) for key, x in mine.items())


def _is_same(a: Any, b: Any) -> bool:
    """Whether these are the same numbers."""
    if type(a) is tuple and type(b) is tuple:
        return len(a) == len(b) and all(map(_is_same, a, b))
    return a is b or (type(a) is type(b) and type(a) in (int, float) and a == b)


class GivenValues:
    """The values of some fields of transformations of one structure, side by side.

    Args:
        fields: Those whose values may be others in each step: numbers, or tuples of numbers.
        txs: The transformations.

    Raises:
        Unsupported: If one is something else.
    """

    def __init__(self, fields: Sequence[FieldPath], txs: Sequence[PerTensor]) -> None:
        self.fields = fields
        self._sizes = [_size(_value(txs[0], field)) for field in fields]
        self.numbers = array.array("d", [x for tx in txs for x in self._checked(tx)])
        self.size = len(self.numbers) // len(txs)  # of each transformation

    def of(self, tx: GradientTransformation) -> list[Any]:
        """The values of one transformation, in order."""
        found: list[Any] = []
        for field in self.fields:
            value = _value(tx, field)
            found += value if type(value) is tuple else (value,)
        return found

    def _checked(self, tx: PerTensor) -> list[float]:
        if [_size(_value(tx, field)) for field in self.fields] != self._sizes:
            raise Unsupported("a hyperparameter that is no number, or another number of them")
        return self.of(tx)

    def read(self, txs: Sequence[PerTensor]) -> bool:
        """Reads those of other transformations; false if they are not such numbers."""
        try:
            self.numbers[:] = array.array("d", [x for tx in txs for x in self._checked(tx)])
        except Unsupported:
            return False
        return True

    def noted(self, txs: Sequence[PerTensor], of: Notes) -> list[PerTensor]:
        """The transformations with numbers, of which is noted what is made of them."""
        numbers = iter([Number(of, f"values[{k}]", x, False) for k, x in enumerate(self.numbers)])
        made = []
        for tx in txs:
            values: dict[FieldPath, Any] = {}
            for field, size in zip(self.fields, self._sizes, strict=True):
                own = tuple(next(numbers) for _ in range(size or 1))
                values[field] = own if size else own[0]
            made.append(with_fields(tx, values, unchecked))
        return made


def _value(tx: GradientTransformation, field: FieldPath) -> Any:
    path, name = field
    for key in path:
        tx = tx.children()[key]
    return getattr(tx, name)


def _size(value: Any) -> int:
    """Of how many numbers it is a tuple; 0 if it is a number.

    Raises:
        Unsupported: If it is something else.
    """
    each = value if type(value) is tuple else (value,)
    if not each or not all(type(x) is float for x in each):
        raise Unsupported("a hyperparameter that is no number")
    return len(each) if each is value else 0
