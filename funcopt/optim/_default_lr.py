"""A learning rate for chains that have none, so that schedulers work on every chain."""

from collections.abc import Mapping
from typing import Any

from .._core.tensor_rule import GradientTransformation, TensorRule
from ..combinators import Around, Wrapper, chain, partition, walk
from ..transforms import scale_by_learning_rate


def with_lr(tx: GradientTransformation) -> GradientTransformation:
    """`tx`, with a factor `lr` at the end if it has none: in front of what has to come last.

    Where only some branches of a partition have one, the others get theirs, so that every group has
    an `lr` for schedulers to set.
    """
    if getattr(tx, "is_outermost", False):
        return tx.with_children({key: with_lr(child) for key, child in tx.children().items()})
    if _has_lr(tx):
        branches = any(isinstance(node, partition) for _, node in walk(tx))
        return _with_lr_inside(tx) if branches else tx
    stages = list(tx.stages) if isinstance(tx, chain) else [tx]
    last = len(stages)
    while last and all(_comes_last(rule) for rule in _rules(stages[last - 1])):
        last -= 1
    end = stages[last - 1] if last else tx
    inside = _outlets(end) if any(map(_comes_last, _rules(end))) else {}
    if not inside:
        stages.insert(last, scale_by_learning_rate(1.0, flip_sign=False))
        return chain(*stages)
    changed = {key: with_lr(child) for key, child in inside.items()}
    stages[last - 1] = end.with_children({**end.children(), **changed})
    return chain(*stages) if isinstance(tx, chain) else stages[0]


def _has_lr(tx: GradientTransformation) -> bool:
    nodes = [node for _, node in walk(tx)]
    return any("lr" in node.hyperparameters and node.lr is not None for node in nodes)  # type: ignore[attr-defined]


def _rules(tx: GradientTransformation) -> list[GradientTransformation]:
    """The rules of `tx`, and what else has to come last."""
    return [
        node
        for _, node in walk(tx)
        if isinstance(node, TensorRule) or getattr(node, "comes_last", False)
    ]


def _comes_last(rule: Any) -> bool:
    return bool(rule.comes_last or not rule.changes_updates)


def _outlets(tx: GradientTransformation) -> Mapping[str, GradientTransformation]:
    """The children through one of which every update of a combinator comes out."""
    if isinstance(tx, partition):
        return tx.children()
    return {"inner": tx.inner} if isinstance(tx, (Wrapper, Around)) else {}


def _with_lr_inside(tx: GradientTransformation) -> GradientTransformation:
    children = tx.children()
    if isinstance(tx, partition):
        return tx.with_children({key: with_lr(child) for key, child in children.items()})
    having = [key for key, child in children.items() if _has_lr(child)]
    if "lr" in tx.hyperparameters or len(having) != 1:
        return tx
    return tx.with_children({**children, having[0]: _with_lr_inside(children[having[0]])})
