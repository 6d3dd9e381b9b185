"""What the stages of a chain say of a step, by group."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core.stage import Node
from .._core.tensor_rule import PerTensor
from ..combinators import measurements, walk
from ._options import named_parameters, same_value

Groups = Sequence[Mapping[str, Any]]


def metrics(
    tx: PerTensor, node: Node, group_of: Sequence[int], groups: Groups
) -> dict[str, Tensor]:
    """The numbers of a step, each a tensor with a key of its own.

    Those that a group sets, such as ``lr``, have the name of the group in their key if there are
    several groups that the stage is for; so do others where they differ.

    Args:
        tx: The transformation of one of the groups.
        node: That of the step.
        group_of: The group of each bucket.
        groups: All of them.
    """
    called = [str(group.get("name", i)) for i, group in enumerate(groups)]
    nodes, paths = dict(walk(tx)), [_paths(tx, group) for group in groups]
    found: dict[str, Tensor] = {}
    for at, each in measurements(tx, tx.nodes(node, range(len(group_of)))).items():
        several = sum(at.path in own for own in paths) > 1
        differ = not all(same_value(one.value, each[0].value) for one in each)
        by_group = several and (at.name in nodes[at.path].hyperparameters or differ)
        seen: dict[str, list[Any]] = {}
        for one in each:
            key = at.key
            if by_group and one.bucket is not None:
                key = f"{called[group_of[one.bucket]]}/{at.own}"
            values = seen.setdefault(key if one.tensor is None else f"{key}/{one.tensor}", [])
            if not any(same_value(one.value, value) for value in values):
                values.append(one.value)
        for key, values in seen.items():
            for i, value in enumerate(values):  # several, where parameters of a group joined late
                found[key if i == 0 else f"{key}_{i + 1}"] = torch.as_tensor(value)
    return found


def _paths(tx: PerTensor, group: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The paths of the stages that a group is for."""
    return {path for path, _ in walk(tx, of=list(named_parameters(group)))}
