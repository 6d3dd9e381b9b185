"""The order of stages."""

from collections.abc import Sequence

from .._core.tensor_rule import GradientTransformation
from ..errors import HyperparameterError
from ._hyperparams import walk


def comes_last(tx: GradientTransformation) -> bool:
    """Whether `tx`, or a part of it, needs the final update."""
    return bool(getattr(tx, "comes_last", False))


def changes_updates(tx: GradientTransformation) -> bool:
    """Whether `tx` may change updates."""
    return bool(getattr(tx, "changes_updates", True))


def which_comes_last(tx: GradientTransformation) -> str | None:
    """The name of the innermost part that needs the final update."""
    inside = (which_comes_last(child) for child in tx.children().values())
    return next(filter(None, inside), type(tx).__name__ if comes_last(tx) else None)


def refuse_last(owner: GradientTransformation, inner: GradientTransformation) -> None:
    """Refuses an `inner` that needs the final update, which `owner` then changes."""
    if name := which_comes_last(inner):
        who = type(owner).__name__
        raise HyperparameterError(
            f"`{who}`: `{name}` needs the final update, and `{who}` changes it: put "
            f"`{name}` after it, `chain({who}(...), {name}(...))`."
        )


def refuse_before_first(stages: Sequence[GradientTransformation]) -> None:
    """Refuses a stage that changes gradients before one that evaluates the loss itself."""
    before = None
    for stage in stages:
        first = next((type(x).__name__ for _, x in walk(stage) if x.comes_first), None)
        if first is not None and before is not None:
            raise HyperparameterError(
                f"`chain`: `{first}` evaluates the loss itself, and its gradients would not be "
                f"changed by {before!r} before it. A stage that changes gradients belongs "
                "inside of it, as in `sam(chain(...))`, or into the loss."
            )
        before = stage if changes_updates(stage) else before
