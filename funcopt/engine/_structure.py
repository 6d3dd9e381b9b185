"""The structure of a transformation: all of it but the values of its hyperparameters."""

from typing import Any

from .._core.record import values_equal
from .._core.tensor_rule import GradientTransformation, PerTensor


def same_structure(a: GradientTransformation, b: GradientTransformation) -> bool:
    """Whether two transformations differ only in the values of their hyperparameters."""
    if a is b:
        return True
    fields, others = vars(a), vars(b)
    if type(a) is not type(b) or fields.keys() != others.keys():
        return False
    names = [name for name in fields if name not in a.hyperparameters]
    return all(same_field(fields[name], others[name]) for name in names)


def same_field(a: Any, b: Any) -> bool:
    """Whether two values that are no hyperparameters are the same, but for those inside of them."""
    if a is b:
        return True
    if isinstance(a, GradientTransformation):
        return isinstance(b, GradientTransformation) and same_structure(a, b)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same_field, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_field(a[k], b[k]) for k in a)
    code = getattr(a, "__code__", None)
    if code is not None and hasattr(b, "__code__"):  # two closures of one function
        return code is b.__code__ and same_field(_closed_over(a), _closed_over(b))
    return values_equal(a, b)


def _closed_over(function: Any) -> tuple[Any, ...]:
    """The values that a function has access to, other than its arguments and globals."""
    cells = [_cell_contents(cell) for cell in function.__closure__ or ()]
    owner = getattr(function, "__self__", None)
    return cells, function.__defaults__, function.__kwdefaults__, owner


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def is_replayable(tx: Any) -> bool:
    """Whether a trace of `run` holds in other steps, as declared by the class that defines it."""
    return _declares(tx, "replayable")


def makes_decisions(tx: Any) -> bool:
    """Whether a trace of `run` holds where it decides the same, as declared by that class."""
    return _declares(tx, "decides")


def follows_counts(tx: Any) -> bool:
    """Whether numbers follow from counts, as the authors of all functions of these declare."""
    return all(_declares(tx, "follows_counts", x) for x in ("open", "run", "memory_after"))


def _declares(tx: Any, fact: str, method: str = "run") -> bool:
    if not isinstance(tx, PerTensor):
        return False
    author = next(cls for cls in type(tx).__mro__ if method in vars(cls))
    return fact in vars(author) and bool(getattr(tx, fact))
