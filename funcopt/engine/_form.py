"""What decides what a transformation does to a tensor: all of it but its numbers."""

from typing import Any

from .._base import GradientTransformation, PerTensor
from .._record import same
from ..combinators import walk


def same_form(a: PerTensor, b: PerTensor) -> bool:
    """Whether two transformations differ in numbers only: they do the same to a tensor."""
    left, right = walk(a), walk(b)
    if len(left) != len(right):
        return False
    for (path, x), (other, y) in zip(left, right, strict=True):
        fields, others = vars(x), vars(y)
        if type(x) is not type(y) or path != other or fields.keys() != others.keys():
            return False
        names = fields.keys() - x.hyperparameters
        if not all(_same(fields[name], others[name]) for name in names):
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    """Whether two fields say the same; transformations in them are looked at by themselves."""
    if a is b or isinstance(a, GradientTransformation):
        return type(a) is type(b)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if hasattr(a, "__code__") and hasattr(b, "__code__"):  # a function that has been made anew
        cells = [[x.cell_contents for x in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and _same(*cells)
    return same(a, b)


def is_steady(tx: Any) -> bool:
    """Whether `run` does nothing besides, as said by the class that has written it."""
    if not isinstance(tx, PerTensor):
        return False
    author = next(cls for cls in type(tx).__mro__ if "run" in vars(cls))
    return bool(vars(author).get("steady", False))
