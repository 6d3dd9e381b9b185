"""What has to come after what."""

from collections.abc import Sequence

from .._core.tensor_rule import GradientTransformation
from ..errors import HyperparameterError
from ._hyperparams import walk


def comes_last(tx: GradientTransformation) -> bool:
    """Whether `tx`, or a part of it, looks at the step about to be made."""
    return bool(getattr(tx, "comes_last", False))


def changes_updates(tx: GradientTransformation) -> bool:
    """Whether updates may come out of `tx` otherwise than they went in."""
    return bool(getattr(tx, "changes_updates", True))


def which_comes_last(tx: GradientTransformation) -> str | None:
    """The name of the innermost part that looks at the step about to be made."""
    inside = (which_comes_last(child) for child in tx.children().values())
    return next(filter(None, inside), type(tx).__name__ if comes_last(tx) else None)


def refuse_last(owner: GradientTransformation, inner: GradientTransformation) -> None:
    """Refuses an `inner` that looks at a step which `owner` then changes."""
    if name := which_comes_last(inner):
        who = type(owner).__name__
        raise HyperparameterError(
            f"`{who}`: `{name}` looks at the step about to be made, and `{who}` changes it: put "
            f"`{name}` behind, `chain({who}(...), {name}(...))`."
        )


def refuse_before_first(stages: Sequence[GradientTransformation]) -> None:
    """Refuses a stage that changes gradients before one that takes its own from the loss."""
    before = None
    for stage in stages:
        first = next((type(x).__name__ for _, x in walk(stage) if x.comes_first), None)
        if first is not None and before is not None:
            raise HyperparameterError(
                f"`chain`: `{first}` evaluates the loss itself, and would see nothing of what "
                f"{before!r} does to the gradient before it. What changes gradients belongs "
                "inside of it, as in `sam(chain(...))`, or into the loss."
            )
        before = stage if changes_updates(stage) else before
