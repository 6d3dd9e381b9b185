"""Checkpoints that cannot lie: matched by name, in the shapes and dtypes of creation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._numerics import shards
from .._numerics.names import plain_names
from ..errors import StructureError
from ._clocks import EXACT
from ._options import Options, named_parameters
from ._state import State, pack_numbers
from ._state_layout import STEP, UPDATES, clock_dtype

FORMAT = "funcopt_format"
"""A key of a checkpoint: the version of its layout."""

Templates = Callable[[int, str | None, Tensor], Mapping[str, Tensor]]
"""What the state of a parameter holds when it is created, on the meta device: by the index of its
group, its name and itself."""


def as_saved(saved: Options) -> Options:
    """What torch saves, with the format; and its numbers are no parts of vectors any more."""
    for key, stored in saved["state"].items():
        if isinstance(stored, dict):
            saved["state"][key] = {k: _own(v) for k, v in stored.items()}
    saved[FORMAT] = 1
    return saved


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.dim() == 0 else value


def matched(
    who: str, mine: list[Options], templates: Templates, saved: Options, strict: bool
) -> Options:
    """`saved`, for the parameters of the groups `mine`: by name where both sides have names.

    Raises:
        StructureError: If `strict`, listing all that is missing, unknown or of another shape.
    """
    if saved.get(FORMAT, 1) != 1:
        raise StructureError(
            f"`{who}`: the checkpoint has the format {saved[FORMAT]}, made by "
            "a later version; known here is 1."
        )
    if _have_names(mine) and _have_names(saved["param_groups"]):
        named = {**saved, "param_groups": _plainly_named(saved["param_groups"])}
        saved, missing, unknown = _by_name(_plainly_named(mine), named)
        for group, kept in zip(mine, saved["param_groups"], strict=True):
            kept["param_names"] = list(group["param_names"])
    else:
        missing, unknown = [], []
    if [len(g["params"]) for g in mine] != [len(g["params"]) for g in saved["param_groups"]]:
        return saved  # which the base class refuses
    reshaped, foreign, in_parts = [], [], []
    state = dict(saved["state"])
    for index, (group, other) in enumerate(zip(mine, saved["param_groups"], strict=True)):
        for (name, p), at in zip(named_parameters(group), other["params"], strict=True):
            stored = state.get(at)
            if not isinstance(stored, dict):
                continue
            expected = templates(index, name, p)
            known = {STEP, UPDATES}
            if expected and set(stored) - known and not set(stored) & set(expected):
                has = sorted(set(stored) - known)
                foreign.append(f"{name or at}: {has} instead of {sorted(expected)}")
                continue
            elsewhere = [
                f"{name or at}: {key}, whose parts lie on {stored[key].device_mesh}"
                for key, x in expected.items()
                if not shards.can_be_cut_as(stored.get(key), x)
            ]
            if elsewhere:
                in_parts += elsewhere
                del state[at]
                continue
            wrong = [
                f"{name or at}: {key} of {tuple(stored[key].shape)} instead of {tuple(x.shape)}"
                for key, x in expected.items()
                if isinstance(stored.get(key), Tensor) and stored[key].shape != x.shape
            ]
            if wrong:
                reshaped += wrong
                del state[at]
    if strict and foreign:
        raise StructureError(f"`{who}`: the checkpoint is of another algorithm. It has {foreign}.")
    if strict and in_parts:
        raise StructureError(
            f"`{who}`: the checkpoint is in parts that are not those of the parameters: {in_parts}."
            " Load whole tensors, which are cut here: `full_tensor()` of each, or "
            "`torch.distributed.checkpoint` with `StateDictOptions(full_state_dict=True)`."
        )
    if strict and (missing or unknown or reshaped):
        raise StructureError(
            f"`{who}`: the checkpoint is of other parameters. Missing: "
            f"{missing}. Unknown: {unknown}. Of another shape: {reshaped}. With `strict=False`, "
            "what does not fit starts afresh."
        )
    return {**saved, "state": state}


def _have_names(param_groups: list[Options]) -> bool:
    """Whether every parameter has a name, and no two have the same."""
    if not all("param_names" in group for group in param_groups):
        return False
    names = [name for group in param_groups for name in group["param_names"]]
    return len(names) == len(set(names))


def _plainly_named(param_groups: list[Options]) -> list[Options]:
    """The groups with the names that their parameters have in the model."""
    names = iter(plain_names([name for group in param_groups for name in group["param_names"]]))
    return [
        {**group, "param_names": [next(names) for _ in group["param_names"]]}
        for group in param_groups
    ]


def _by_name(mine: list[Options], saved: Options) -> tuple[Options, list[str], list[str]]:
    """`saved` in the order of `mine`; the names that it has not, and those that only it has."""
    place = {
        name: (at, group)
        for group in saved["param_groups"]
        for name, at in zip(group["param_names"], group["params"], strict=True)
    }
    names = [name for group in mine for name in group["param_names"]]
    groups, state, count = [], {}, 0
    for group in mine:
        found = [place[name][1] for name in group["param_names"] if name in place]
        kept = dict(found[0]) if found else {k: v for k, v in group.items() if k != "params"}
        kept["param_names"] = list(group["param_names"])
        kept["params"] = list(range(count, count + len(group["params"])))
        for at, name in zip(kept["params"], group["param_names"], strict=True):
            if name in place and place[name][0] in saved["state"]:
                state[at] = saved["state"][place[name][0]]
        count += len(group["params"])
        groups.append(kept)
    missing = [name for name in names if name not in place]
    unknown = [name for name in place if name not in names]
    return {**saved, "state": state, "param_groups": groups}, missing, unknown


def restore(
    param_groups: list[Options], state: State, templates: Templates, loaded: Options
) -> None:
    """Replaces what the base class has cast to the parameters' dtypes by what was saved."""
    found: dict[Tensor, Options] = {}
    for index, (mine, saved) in enumerate(zip(param_groups, loaded["param_groups"], strict=True)):
        for (name, p), place in zip(named_parameters(mine), saved["params"], strict=True):
            stored = loaded["state"].get(place)
            if isinstance(stored, dict) and stored:
                found[p] = _as_created(templates(index, name, p), stored, p, mine)
    pack_numbers(({}, new) for new in found.values())
    for p, new in found.items():
        state[p].update(new)


def _as_created(
    templates: Mapping[str, Tensor], stored: Mapping[str, Any], p: Tensor, group: Mapping[str, Any]
) -> Options:
    """The entries of a checkpoint in the dtypes of `templates`, on the device of `p`."""
    out: Options = {}
    for key, value in stored.items():
        if value is None:
            continue
        if key in (STEP, UPDATES):
            device = p.device if group.get("capturable") else torch.device("cpu")
            dtype = torch.float64 if float(value) > EXACT else clock_dtype()
            out[key] = torch.as_tensor(value, dtype=dtype).to(device, copy=True)
        elif key in templates:
            found = torch.as_tensor(value)
            place = p.device if templates[key].dim() else found.device
            if shards.is_sharded(found):
                found = found.to(templates[key].dtype, copy=True)
            else:
                found = found.to(place, templates[key].dtype, copy=True)
            out[key] = shards.cut_as(found, templates[key])
    return out
