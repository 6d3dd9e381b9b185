"""The names that the parameters of a tree go by."""

from .. import tree
from .._numerics.names import plain_name
from ..typing import Tree


def names_of(params: Tree) -> list[str]:
    """The paths of the leaves, without what wrappers of modules have put into them."""
    return [plain_name(name) for name in tree.names(params)]
