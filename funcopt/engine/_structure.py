"""What decides what a transformation does to a tensor: all of it but its numbers."""

from typing import Any

from .._core.record import values_equal
from .._core.tensor_rule import GradientTransformation, PerTensor


def same_form(a: GradientTransformation, b: GradientTransformation) -> bool:
    """Whether two transformations differ in numbers only: they do the same to a tensor."""
    if a is b:
        return True
    fields, others = vars(a), vars(b)
    if type(a) is not type(b) or fields.keys() != others.keys():
        return False
    names = [name for name in fields if name not in a.hyperparameters]
    return all(_same(fields[name], others[name]) for name in names)


def _same(a: Any, b: Any) -> bool:
    """Whether two fields say the same."""
    if a is b:
        return True
    if isinstance(a, GradientTransformation):
        return isinstance(b, GradientTransformation) and same_form(a, b)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if hasattr(a, "__code__") and hasattr(b, "__code__"):  # a function that has been made anew
        return a.__code__ is b.__code__ and _same(_around(a), _around(b))
    return values_equal(a, b)


def _around(function: Any) -> tuple[Any, ...]:
    """What a function knows besides its code."""
    cells = [_content(cell) for cell in function.__closure__ or ()]
    owner = getattr(function, "__self__", None)
    return cells, function.__defaults__, function.__kwdefaults__, owner


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def is_replayable(tx: Any) -> bool:
    """Whether `run` does nothing besides, as said by the class that has written it."""
    if not isinstance(tx, PerTensor):
        return False
    author = next(cls for cls in type(tx).__mro__ if "run" in vars(cls))
    return bool(vars(author).get("replayable", False))
