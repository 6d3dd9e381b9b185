"""How an optimizer is printed: its groups, as torch does, and what it does with them."""

from .._core.tensor_rule import GradientTransformation
from ..combinators import partition


def with_stages(groups: str, tx: GradientTransformation) -> str:
    """What torch prints of the groups, and the stages; numbers stand in the groups only."""
    return f"{groups.removesuffix(')')}Transformation: {_names(tx)}\n)"


def _names(tx: GradientTransformation) -> str:
    """The class of a transformation, and of those that it is made of."""
    labeled = isinstance(tx, partition)
    inside = [
        f"{key}: {_names(child)}" if labeled else _names(child)
        for key, child in tx.children().items()
    ]
    return f"{type(tx).__name__}({', '.join(inside)})" if inside else type(tx).__name__
