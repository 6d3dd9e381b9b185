"""Names that are almost right."""

from collections.abc import Iterable


def edits(a: str, b: str) -> int:
    """How many letters to insert, drop, replace, or swap with the next, to make `b` of `a`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that `name` is a slip or the beginning of, if there is one."""
    known = list(known)
    each = [(edits(name.lower(), other.lower()), other) for other in known]
    least, other = min(each, key=lambda pair: pair[0], default=(len(name), ""))
    if least <= max(1, len(name) // 4) and least < len(other):
        return other
    longer = [other for other in known if len(name) > 2 and other.startswith(name)]
    return longer[0] if longer else None


def one_edit_away(name: str, known: str) -> bool:
    """Whether one slip makes `name` of `known`, and chance hardly does.

    Of a name of one letter any two letters are a slip, and half of a name of two is not.
    """
    if len(known) < 2 or edits(name, known) != 1:
        return False
    return len(known) > 2 or len(name) > 2 or sorted(name) == sorted(known)
