"""Loading of checkpoints: checked as a whole before any of it is put in place.

Parameters are matched by name where both sides have names (`_pairing`), and entries are checked
against what the state of a parameter holds when it is created (`_entries`).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._core.warning import warn
from ..errors import StructureError
from ._entries import CLOCKS, TORCHS, Misfit, as_created, clocks_of, misfit, what_fits
from ._group_keys import foreign_options, is_numeric
from ._groups import ParameterGroups
from ._options import Options, named_parameters
from ._pairing import Pairing, paired
from ._state import StateStore, pack_numbers, reads_clock
from ._state_layout import STEP, UPDATES

FORMAT = "funcopt_format"
"""A key of a checkpoint: the version of its layout."""

ENTRIES = "funcopt_entries"
"""A key of a checkpoint: the entries that the optimizer keeps of parameters; others are notes."""


class Checkpoint(NamedTuple):
    """What loading puts in place: all of it fits, and it shares no tensor with what was given."""

    saved: Options  # the groups, and what of the state belongs to no parameter
    state: dict[Tensor, Options]


def as_saved(saved: Options, entries: Iterable[str]) -> Options:
    """What torch saves, with the format and the keys of entries; its dicts are not shared."""
    for key, stored in saved["state"].items():
        if isinstance(stored, dict):
            saved["state"][key] = dict(stored)
    saved[FORMAT] = 1
    saved[ENTRIES] = sorted(entries)
    return saved


def checked(
    current: StateStore, mine: list[Options], defaults: Options, saved: Options, strict: bool
) -> Checkpoint:
    """A checkpoint as it is put into the groups `mine`, which stay as they are.

    Raises:
        StructureError: If `strict`, listing all that does not fit; if it is none, of two
            parameters with one name, or of other groups without names, in any case.
        HyperparameterError: If a value of a group is out of range.
    """
    groups = current.groups
    who = groups.who
    _check_form(who, saved)
    saved = _with_keys_of_now(saved, groups.factory.keys_of_before())
    pairing = paired(who, mine, saved["param_groups"])
    problems = {title: list(names) for title, names in pairing.problems.items()}
    trial = groups.trial()
    merged = [_merged(trial, *pair, defaults) for pair in zip(mine, pairing.options, strict=True)]
    for index in range(len(merged)):
        trial.transformation(merged, index)  # its values are checked
    different = _different_options(trial, merged, pairing, defaults)
    store = StateStore(trial, current.offload.another())
    state, misfits, initialized = _fitted(trial, store, merged, pairing, saved)
    for title, what in (*different, *misfits):
        problems.setdefault(title, []).append(what)
    rest = _of_no_parameter(saved, problems)
    if strict and any(problems.values()):
        raise StructureError(
            f"`{who}`: the checkpoint does not fit, and nothing is loaded. {_said(problems)} With "
            "`strict=False`, what does not fit is initialized, and parameters in other groups than "
            "before have the options of their groups here."
        )
    if any(problems.values()):
        left_out = _said({**problems, "Initialized": initialized}, most=20)
        warn(f"`{who}`: `strict=False` has loaded what fits of the checkpoint. {left_out}")
    pack_numbers(({}, new) for new in state.values())
    for group in merged:
        groups.warn_of_keys(group)
    return Checkpoint({**saved, "state": rest, "param_groups": _numbered(merged)}, state)


def _said(problems: Mapping[str, list[str]], most: int | None = None) -> str:
    sentences = []
    for title, found in problems.items():
        more = "" if most is None or len(found) <= most else f" and {len(found) - most} more"
        sentences += [f"{title}: {found[:most]}{more}."] if found else []
    return " ".join(sentences)


def _check_form(who: str, saved: Mapping[str, Any]) -> None:
    if saved.get(FORMAT, 1) != 1:
        raise StructureError(
            f"`{who}`: the checkpoint has the format {saved[FORMAT]}, made by "
            "a later version; known here is 1."
        )
    groups, state = saved.get("param_groups"), saved.get("state")
    right = isinstance(groups, (list, tuple)) and isinstance(state, Mapping)
    if not right or not all(isinstance(g, Mapping) and "params" in g for g in groups or ()):
        raise StructureError(
            f"`{who}`: expected what `state_dict()` of an optimizer returns, a dict with `state` "
            f"and `param_groups`, got a dict with {list(saved)}."
        )
    for index, group in enumerate(groups or ()):
        names = group.get("param_names")
        if names is not None and len(names) != len(group["params"]):
            raise StructureError(
                f"`{who}`: parameter group {index} of the checkpoint has {len(group['params'])} "
                f"parameters and {len(names)} names."
            )
    keys = [key for group in groups or () for key in group["params"]]
    if len(set(keys)) != len(keys):
        raise StructureError(f"`{who}`: the checkpoint has a parameter in two places: {keys}.")


def _with_keys_of_now(saved: Options, names: Mapping[str, str]) -> Options:
    """A checkpoint of an earlier version with the keys of groups as they are now."""
    found = []
    for group in saved["param_groups"]:
        old = {k for k, new in names.items() if k in group and new not in group}
        found.append({names[k] if k in old else k: value for k, value in group.items()})
    return {**saved, "param_groups": found}


def _merged(
    groups: ParameterGroups, mine: Options, saved: Mapping[str, Any] | None, defaults: Options
) -> Options:
    """A group as it will be: with the parameters that are here, and the options of `saved`."""
    names = mine.get("param_names")
    group = {**(mine if saved is None else saved), "params": mine["params"]}
    if names is not None:
        group["param_names"] = list(names)
    groups.complete(group, defaults)
    return group


def _different_options(
    groups: ParameterGroups, merged: list[Options], pairing: Pairing, defaults: Options
) -> list[Misfit]:
    found = []
    for index, (group, saved) in enumerate(zip(merged, pairing.options, strict=True)):
        own = groups.factory.hyperparameters(list(named_parameters(group)) or None)
        numbers = [key for key, value in own.items() if is_numeric(value)]
        known = {"params", *defaults, *own}
        if saved is not None and (what := foreign_options(saved, numbers, known)):
            what = f"parameter group {index}: {what}"
            found.append(Misfit("Saved by a different optimizer", what))
    return found


def _numbered(groups: list[Options]) -> list[Options]:
    """Groups with numbers in the place of parameters, as the base class wants them."""
    found, count = [], 0
    for group in groups:
        numbers = list(range(count, count + len(group["params"])))
        found.append({**group, "params": numbers})
        count += len(numbers)
    return found


def _fitted(
    groups: ParameterGroups,
    store: StateStore,
    merged: list[Options],
    pairing: Pairing,
    saved: Mapping[str, Any],
) -> tuple[dict[Tensor, Options], list[Misfit], list[str]]:
    """The state of the parameters that have some, as it is created, with the entries that fit.

    Then what does not fit, and the entries that are initialized for it, by parameter.
    """
    state, misfits = {}, []
    initialized: list[str] = []
    state_of, own = saved["state"], {*TORCHS, *saved.get(ENTRIES, ())}
    stored = {key: state_of.get(key) for keys in pairing.keys for key in keys if key is not None}
    clocks = clocks_of(stored)
    for index, group in enumerate(merged):
        tx = groups.transformation(merged, index).tx
        for (name, p), key in zip(named_parameters(group), pairing.keys[index], strict=True):
            entries = stored.get(key) if key is not None else None
            if entries is None or entries == {}:
                continue
            label = str(key) if name is None else name
            if not isinstance(entries, dict):
                misfits.append(Misfit("Invalid", f"{label}: {type(entries).__name__}, no dict"))
                continue
            entries = {k: v for k, v in entries.items() if v is not None}
            layout = store.layout(merged, index, name, p)
            expected = layout.templates()
            wrong = misfit(entries, expected, clocks[key], p, own)
            beside = sorted(key for key in expected if key in entries)
            if wrong is None and beside and STEP not in entries and reads_clock(tx, name, p):
                wrong = Misfit("Missing entries", f"`{STEP}` beside {beside}")
            if wrong is not None:
                misfits.append(wrong._replace(what=f"{label}: {wrong.what}"))
                late = reads_clock(tx, name, p)
                entries = what_fits(entries, layout, clocks[key], p, own, late)
                new = [f"`{k}`" for k in expected if k not in entries] if entries else ["all"]
                if new:
                    initialized.append(f"{label}: {', '.join(new)}")
            if entries:
                device = store.offload.device(p)
                clock_device = p.device if group.get("capturable") else torch.device("cpu")
                devices = (device, clock_device)
                state[p] = as_created(entries, expected, clocks[key], p.dtype, own, *devices)
    begun = max((found.get(STEP) or 0 for found in clocks.values()), default=0)
    if any(groups.schedules) and begun > 0 and all(UPDATES not in x for x in state.values()):
        what = f"`{UPDATES}`, the count that schedules see, at step {begun:g}"
        misfits.append(Misfit("Missing entries", what))
    return state, misfits, initialized


def _of_no_parameter(saved: Options, problems: dict[str, list[str]]) -> Options:
    """What of the state belongs to no parameter: notes of others, which stay."""
    known = {key for group in saved["param_groups"] for key in group["params"]}
    rest = {key: value for key, value in saved["state"].items() if key not in known}
    lost = [key for key, value in rest.items() if isinstance(value, dict) and _is_state(value)]
    problems.setdefault("Unknown", []).extend(f"state of {key}" for key in lost)
    return {key: value for key, value in rest.items() if key not in lost}


def _is_state(stored: Mapping[Any, Any]) -> bool:
    return any(key in CLOCKS or isinstance(x, Tensor) for key, x in stored.items())
