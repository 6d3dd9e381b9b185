"""How an optimizer is printed: its groups, as torch does, and what it does with them."""

from .._core.tensor_rule import GradientTransformation
from ..combinators import partition


def with_stages(groups: str, tx: GradientTransformation) -> str:
    """What torch prints of the groups, and the stages; hyperparameters are in the groups only."""
    return f"{groups.removesuffix(')')}Transformation: {stages_in_short(tx)}\n)"


def stages_in_short(tx: GradientTransformation) -> str:
    """The class of a transformation, and of those that it is made of."""
    labeled = isinstance(tx, partition)
    inside = [
        f"{key}: {stages_in_short(child)}" if labeled else stages_in_short(child)
        for key, child in tx.children().items()
    ]
    return f"{type(tx).__name__}({', '.join(inside)})" if inside else type(tx).__name__
