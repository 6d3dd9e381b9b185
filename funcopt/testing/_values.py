"""A transformation and its state can be written down."""

import pickle
import sys
from typing import Any

import torch

from .._core.apply import load_state_dict, state_dict
from .._core.tensor_rule import GradientTransformation
from ..combinators import walk
from ..typing import Params
from ._assert import close, require
from ._trial import by_operations, gradients

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def is_a_value(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """It equals and hashes as its pickled copy, and its `repr` evaluates to its equal."""
    if "<lambda>" in repr(tx) or "<locals>" in repr(tx):
        return  # a function without a name cannot be written down
    copy = pickle.loads(pickle.dumps(tx))
    require(tx, copy == tx and hash(copy) == hash(tx), "does not equal its pickled copy")
    names: dict[str, Any] = {"torch": torch, "float": float}
    for _, node in walk(tx):
        for part in (type(node), *_functions(list(vars(node).values()))):
            names |= vars(sys.modules[part.__module__])
    for module in ("funcopt.transforms", "funcopt.schedules", "funcopt.combinators"):
        names |= vars(sys.modules[module])
    again = eval(repr(tx), names)
    require(tx, again == tx, f"is printed as {tx!r}, which evaluates to {again!r}")


@by_operations
def saves_and_loads(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """A state comes back from its flat dict."""
    state = tx.init(params)
    _, new = tx.update(gradients(params, 0, tx=tx, **extra), state, params, **extra)
    close(tx, "a state that was loaded", load_state_dict(state, state_dict(new)), new, 0.0)


def _functions(value: Any) -> list[Any]:
    """The functions in a field."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [found for part in value for found in _functions(part)]
    return [value] if callable(value) else []
