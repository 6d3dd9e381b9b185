"""Checks of the inner transformation of a combinator."""

from collections.abc import Sequence
from typing import Any

from .._core.compact import in_message
from .._core.tensor_rule import GradientTransformation, PerTensor, TensorRule
from .._core.vector_rule import VectorRule
from ..errors import HyperparameterError, StructureError
from ._hyperparams import walk


def check_inner(owner: GradientTransformation, inner: Any, what: str = "`inner`") -> None:
    """Refuses one that takes whole trees, or per-example gradients that `owner` does not have."""
    who = type(owner).__name__
    if not isinstance(inner, GradientTransformation) or not inner.is_per_tensor():
        raise HyperparameterError(
            f"`{who}`: {what} must be a transformation that works tensor by tensor, got "
            f"{in_message(inner)}."
        )
    refuse_outermost(owner, [inner])
    if not inner.takes_examples():
        return
    taking = [type(x).__name__ for _, x in walk(inner) if x.takes_examples()][-1]
    way_out = f"Put `{taking}` in front, `chain({taking}(...), {who}(...))`."
    if owner.comes_first:
        way_out = f"`{who}` makes its gradients itself, so the two do not go together."
    raise HyperparameterError(
        f"`{who}`: `{taking}` takes one gradient for each example, and inside of `{who}` there is "
        f"one for all of them. {way_out}"
    )


def refuse_outermost(
    owner: GradientTransformation, inside: Sequence[GradientTransformation]
) -> None:
    """Refuses what has to be around all others, inside of `owner`.

    Raises:
        HyperparameterError: Saying where it belongs.
    """
    for _, stage in (found for tx in inside for found in walk(tx)):
        if getattr(stage, "is_outermost", False):
            what, who = type(stage).__name__, type(owner).__name__
            raise HyperparameterError(
                f"`{who}`: `{what}` is about parameters as they are stored, so it has to be "
                f"outermost: `{what}({who}(...))`."
            )


def check_parts(owner: GradientTransformation, part: str, count: int, memory: Any) -> None:
    """Refuses the state of another transformation: one whose memory has other parts.

    Raises:
        StructureError: If there are not so many parts.
    """
    if len(memory) != count:
        raise StructureError(
            f"`{type(owner).__name__}`: the state was made by another transformation: it is for "
            f"{len(memory)} {part}{'' if len(memory) == 1 else 's'}, and this one has {count}. "
            "Call `init(params)` on this one. The order is `update(updates, state, params)`."
        )


def exchanges(inner: GradientTransformation) -> bool:
    """Whether a step of it may communicate with other ranks: it sums, or needs whole tensors."""
    stages = [stage for _, stage in walk(inner)]
    each = [stage for stage in stages if isinstance(stage, PerTensor)]
    sums = any(stage.measures_tree or stage.measures_tensors for stage in each)
    whole = any(not stage.elementwise for stage in each if isinstance(stage, TensorRule))
    return sums or whole or any(isinstance(stage, VectorRule) for stage in stages)
