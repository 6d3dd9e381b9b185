"""Which parameter of a checkpoint is which, and which group is which."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._numerics.names import plain_names
from ..errors import StructureError
from ._options import Options

Saved = Sequence[Mapping[str, Any]]
"""The groups of a checkpoint."""


class Pairing(NamedTuple):
    """What of a checkpoint belongs to the groups that are here."""

    options: list[Mapping[str, Any] | None]  # by group: the saved one; `None` where it has none
    keys: list[list[Any]]  # by group: the key of each parameter's state, `None` where it has none
    problems: dict[str, list[str]]


def paired(who: str, mine: list[Options], saved: Saved) -> Pairing:
    """By name, where both sides have names, else by position.

    Raises:
        StructureError: If parameters share a name on one side only; without names, if there are
            other groups, or these have other numbers of parameters.
    """
    here, there = _names(mine), _names(saved)
    by_position = here is None or there is None or len(set(here)) != len(here)
    if here is not None and there is not None:
        if by_position and here != there:
            raise StructureError(
                f"`{who}`: parameters share the names {_repeated(here)}, so a checkpoint is "
                f"matched by position, and its names are others: {_listed(there)} instead of "
                f"{_listed(here)}."
            )
        if not by_position and (repeated := _repeated(there)):
            raise StructureError(
                f"`{who}`: parameters of the checkpoint share the names {repeated}, so they "
                "cannot be matched."
            )
    if not by_position:
        return _by_name(_plainly_named(mine), _plainly_named(saved))
    if [len(g["params"]) for g in mine] != [len(g["params"]) for g in saved]:
        raise StructureError(_other_groups(who, mine, saved, here, there))
    return Pairing(list(saved), [list(g["params"]) for g in saved], {})


def _other_groups(
    who: str, mine: Saved, saved: Saved, here: list[str] | None, there: list[str] | None
) -> str:
    """The message where parameters are matched by position, and there are others."""
    without = "here" if here is None else "in the checkpoint"
    if here is None and there is None:
        without = "on both sides"
    why = "share names" if here is not None and there is not None else f"have no names {without}"
    return (
        f"`{who}`: the checkpoint has {_counted(saved)}, and here {_counted(mine)}. "
        f"Parameters {why}, so they are matched by position: make the same groups as where it was "
        "saved. To match by name, pass `model.named_parameters()`, in groups as lists of pairs "
        "(name, parameter), where it is saved and where it is loaded. Nothing is loaded."
    )


def _counted(groups: Saved) -> str:
    sizes = [len(group["params"]) for group in groups]
    each = f"{', '.join(map(str, sizes[:20]))}{', ...' * (len(sizes) > 20)}"
    return f"{len(sizes)} parameter group{'s' * (len(sizes) != 1)} (parameters: {each})"


def _names(groups: Saved) -> list[str] | None:
    """The names that all parameters have in the model; `None` if some have none."""
    if not all(group.get("param_names") is not None for group in groups):
        return None
    return plain_names([name for group in groups for name in group["param_names"]])


def _plainly_named(groups: Saved) -> list[dict[str, Any]]:
    """The groups, with these names."""
    names = iter(_names(groups) or ())
    return [{**g, "param_names": [next(names) for _ in g["param_names"]]} for g in groups]


def _by_name(mine: list[Options], saved: Saved) -> Pairing:
    place = {
        name: (index, key)
        for index, group in enumerate(saved)
        for name, key in zip(group["param_names"], group["params"], strict=True)
    }
    names = {name for group in mine for name in group["param_names"]}
    moved = _moved(mine, saved, {name: index for name, (index, _) in place.items()})
    options: list[Mapping[str, Any] | None] = []
    for index, group in enumerate(mine):
        origin = next((place[n][0] for n in group["param_names"] if n in place), None)
        if not group["params"] and index < len(saved) and not saved[index]["params"]:
            origin = index
        options.append(None if moved or origin is None else saved[origin])
    return Pairing(
        options,
        [[place[n][1] if n in place else None for n in g["param_names"]] for g in mine],
        {
            "Missing": [n for g in mine for n in g["param_names"] if n not in place],
            "Unknown": [n for n in place if n not in names],
            "In other groups": moved,
        },
    )


def _moved(mine: list[Options], saved: Saved, origin: Mapping[str, int]) -> list[str]:
    """Which parameters were in one group and are not, or are in one and were not."""
    together: dict[tuple[int, int], list[str]] = {}  # by group there and here
    for index, group in enumerate(mine):
        for name in group["param_names"]:
            if name in origin:
                together.setdefault((origin[name], index), []).append(name)
    found = []
    for side, said in ((0, "group {} of the checkpoint is"), (1, "group {} was")):
        by_group: dict[int, list[str]] = {}
        for pair, names in together.items():
            by_group.setdefault(pair[side], []).append(_listed(names))
        for index, parts in by_group.items():
            if len(parts) > 1:
                found.append(f"{said.format(index)} {' and '.join(parts)}")
    return found


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"[{', '.join(names[:most])}{more}]"
