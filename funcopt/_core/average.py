"""Which average to evaluate with, where a chain keeps several."""

from collections.abc import Sequence
from typing import TypeVar, cast

from ..errors import StructureError
from .functions import identity
from .transformation import GradientTransformation

Tx = TypeVar("Tx", bound=GradientTransformation)


def averages_in(tx: GradientTransformation) -> Sequence[str]:
    """The names of the averages that `tx` keeps, in order: of the stage, or else its class."""
    own = [_name(tx)] if _keeps_one(tx) else []
    return [*own, *(name for child in tx.children().values() for name in averages_in(child))]


def only_average(who: str, tx: Tx, which: str | None) -> Tx:
    """`tx`, to evaluate with one of its averages: the other stages keep none.

    It is for reading a state of `tx`: the stages in it stand where they were.

    Raises:
        StructureError: If there is no average of this name.
    """
    if which is None:
        return tx
    names = averages_in(tx)
    if which not in names:
        there = f"It keeps {', '.join(f'`{name}`' for name in names)}" if names else "It keeps none"
        raise StructureError(
            f"`{who}`: no stage keeps an average named `{which}`. {there}. A name is given by "
            "`ema_of_params(decay, name=...)`; else it is that of the class."
        )
    return cast(Tx, _without_others(tx, which))


def _without_others(tx: GradientTransformation, which: str) -> GradientTransformation:
    if _keeps_one(tx):
        return tx if _name(tx) == which else identity()
    children = tx.children()
    new = {key: _without_others(child, which) for key, child in children.items()}
    same = all(new[key] is child for key, child in children.items())
    return tx if same else tx.with_children(new)


def _keeps_one(tx: GradientTransformation) -> bool:
    return bool(getattr(tx, "averages", False))


def _name(tx: GradientTransformation) -> str:
    return getattr(tx, "name", None) or type(tx).__name__
