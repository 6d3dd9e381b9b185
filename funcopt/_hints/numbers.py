"""What to write for a hyperparameter of a transformation that is no field of its own."""

from typing import Any


def of_chain(tx: Any, name: str) -> str:
    """The message for an attribute that a transformation does not have."""
    who = type(tx).__name__
    said = f"`{who}` has no attribute `{name}`"
    owners = [
        x for child in tx.children().values() for x in _below(child) if name in x.hyperparameters
    ]
    if not owners:
        return f"{said}."
    return (
        f"{said}; it is a hyperparameter of `{type(owners[0]).__name__}` inside: "
        f"`hyperparams(tx)[{name!r}]` reads it, `with_hyperparams(tx, {name}=...)` sets it."
    )


def _below(tx: Any) -> list[Any]:
    return [tx, *(x for child in tx.children().values() for x in _below(child))]
