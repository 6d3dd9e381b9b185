"""What laws have to know of a transformation."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from .._core.tensor_rule import GradientTransformation, PerTensor, TensorRule
from .._core.vector_rule import VectorRule
from ..combinators import hyperparams, walk


def rules_of(tx: GradientTransformation) -> list[TensorRule] | None:
    """The rules that `tx` is made of; `None` if it sees whole trees."""
    if not tx.is_per_tensor():
        return None
    return [node for _, node in walk(tx) if isinstance(node, TensorRule)]


def chooses(tx: GradientTransformation) -> bool:
    """Whether it treats parameters by name or kind: then they cannot be renamed or reshaped."""
    return any(node.chooses or getattr(node, "random", False) for _, node in walk(tx))


def couples(node: GradientTransformation) -> bool:
    """Whether tensors see one another in it, or may."""
    if isinstance(node, VectorRule) or not node.is_per_tensor():
        return True
    return isinstance(node, PerTensor) and node.measures_tree


def measures_tensors(node: GradientTransformation) -> bool:
    """Whether the entries of one tensor see one another by a measure."""
    return isinstance(node, PerTensor) and node.measures_tensors


def numeric_hyperparams(tx: GradientTransformation) -> dict[str, Any]:
    """The hyperparameters that are numbers, or tuples of numbers, by name."""
    return {k: v for k, v in hyperparams(tx).items() if _is_number(v)}


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_number, value))
    return isinstance(value, (int, float)) and math.isfinite(value)


def scaled(value: Any, factors: Sequence[float]) -> Any:
    """A tensor with as many values, in the place of each number."""
    if isinstance(value, tuple):
        return tuple(scaled(part, factors) for part in value)
    return torch.tensor([value * factor for factor in factors], dtype=torch.float64)
