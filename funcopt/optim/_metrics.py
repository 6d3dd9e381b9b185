"""What the stages of a chain say of a step."""

from typing import Any

import torch

from .._core.stage import Node
from .._core.tensor_rule import PerTensor
from ..combinators import labels, unique_keys
from ._options import same_value


def metrics(tx: PerTensor, node: Node) -> dict[str, Any]:
    """The metrics of a step: a tensor by key, or a list of them where groups differ."""
    found = tx.nodes(node)
    pairs, values = [], []
    for label, (stage, at) in zip(labels(stage for stage, _ in found), found, strict=True):
        for name in stage.metrics:
            rows = [torch.as_tensor(row[name]) for row in at.rows if name in row]
            if rows:  # else the stage has not run in this step
                pairs.append((label, name))
                values.append(rows[0] if _is_same_in(at.rows, name) else rows)
    return dict(zip(unique_keys(pairs), values, strict=True))


def _is_same_in(rows: list[dict[str, Any]], name: str) -> bool:
    return all(same_value(row.get(name), rows[0].get(name)) for row in rows)
