"""Checkpoints that cannot lie: matched by name, in the dtypes of creation."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import StructureError
from ._layout import STEP, UPDATES
from ._values import Values

FORMAT = "funcopt_format"
"""A key in the groups of a checkpoint: the version of their layout."""


def by_name(optimizer: torch.optim.Optimizer, saved: Values, strict: bool) -> Values:
    """`saved`, with its parameters in the order of those of `optimizer`, found by their names.

    Without names on either side, as it is.

    Raises:
        StructureError: If `strict`, and names are missing or unknown.
    """
    mine = optimizer.param_groups
    if not all("param_names" in group for group in (*mine, *saved["param_groups"])):
        return saved
    place: dict[str, Any] = {}
    home: dict[str, Values] = {}
    for group in saved["param_groups"]:
        for name, at in zip(group["param_names"], group["params"], strict=True):
            place[name], home[name] = at, group
    names = [name for group in mine for name in group["param_names"]]
    missing = [name for name in names if name not in place]
    unknown = sorted(set(place) - set(names))
    reshaped = [
        f"{name}: {key} of {tuple(value.shape)}"
        for group in mine
        for name, p in zip(group["param_names"], group["params"], strict=True)
        for key, value in saved["state"].get(place.get(name), {}).items()
        if isinstance(value, Tensor) and key in _like_p(optimizer, p)
        if value.shape != optimizer.state[p][key].shape
    ]
    if strict and (missing or unknown or reshaped):
        raise StructureError(
            f"`{type(optimizer).__name__}`: the checkpoint is of other parameters. Missing: "
            f"{missing}. Unknown: {unknown}. Of another shape: {reshaped}. With `strict=False`, "
            "what is missing starts afresh."
        )
    groups, state, count = [], {}, 0
    for group in mine:
        found = [home[name] for name in group["param_names"] if name in home]
        kept = dict(found[0]) if found else {k: v for k, v in group.items() if k != "params"}
        kept["param_names"] = list(group["param_names"])
        kept["params"] = list(range(count, count + len(group["params"])))
        for at, name in zip(kept["params"], group["param_names"], strict=True):
            if name in place and place[name] in saved["state"]:
                state[at] = saved["state"][place[name]]
        count += len(group["params"])
        groups.append(kept)
    return {**saved, "state": state, "param_groups": groups}


def _like_p(optimizer: torch.optim.Optimizer, p: Tensor) -> Values:
    kept: Values = optimizer.state.get(p, {})
    return kept


def as_created(
    templates: Mapping[str, Tensor],
    stored: Mapping[str, Any],
    p: Tensor,
    group: Mapping[str, Any],
    clock_dtype: torch.dtype,
) -> Values:
    """The entries of a checkpoint in the dtypes of `templates`, on the device of `p`."""
    out: Values = {}
    for key, value in stored.items():
        if value is None:
            continue
        if key in (STEP, UPDATES):
            device = p.device if group.get("capturable") else torch.device("cpu")
            out[key] = torch.as_tensor(value, dtype=clock_dtype).to(device, copy=True)
        elif key in templates:
            found = torch.as_tensor(value)
            place = p.device if templates[key].dim() else found.device
            out[key] = found.to(place, templates[key].dtype, copy=True)
    return out
