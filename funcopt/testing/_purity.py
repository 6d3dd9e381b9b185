"""An update changes none of its arguments, and keeps structure, shapes and dtypes."""

from typing import Any

import torch

from .. import tree
from .._core.tensor_rule import GradientTransformation
from .._numerics.scalars import widen
from ..typing import Params
from ._assert import describe, distinct, require, same_metadata, shares_no_memory
from ._trial import by_operations, gradients

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def is_pure(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`init` and `update` change nothing, and no memory appears in two roles."""
    state = tx.init(params)
    shares_no_memory(tx, "the state that `init` made", state, "the parameters", params)
    distinct(tx, "the state that `init` made", state)
    for t in range(3):
        grads = gradients(params, t, tx=tx, **extra)
        given = (grads, state, params)
        before = [(x.clone(), x._version) for x in tree.leaves(given)]
        updates, new = tx.update(grads, state, params, **extra)
        for x, (value, version) in zip(tree.leaves(given), before, strict=True):
            same = torch.equal(x, value) and x._version == version
            require(tx, same, "has an `update` that changes its arguments")
        shares_no_memory(tx, "the new state", new, "the gradients", grads)
        shares_no_memory(tx, "the new state", new, "the parameters", params)
        shares_no_memory(tx, "the updates", updates, "the parameters", params)
        shares_no_memory(tx, "the updates", updates, "the old state", state)
        shares_no_memory(tx, "the updates", updates, "the new state", new)
        distinct(tx, "the new state", new)
        distinct(tx, "the updates", updates)
        state = new


@by_operations
def keeps_metadata(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Updates have the structure, shapes and dtypes of the gradients, states those of the first."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        ps = tree.cast(params, dtype)
        state = tx.init(ps)
        first = describe(state)
        exact = getattr(tx, "exact_updates", False)
        like = describe(tree.cast(ps, widen(dtype)) if exact else ps)
        for t in range(3):
            grads = gradients(ps, t, tx=tx, **extra)
            updates, state = tx.update(grads, state, ps, **extra)
            same_metadata(tx, f"updates in {dtype}", describe(updates), like)
            same_metadata(tx, f"the state in {dtype}", describe(state), first)
