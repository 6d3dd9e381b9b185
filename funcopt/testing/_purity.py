"""An update changes nothing, and comes out in the form in which it went in."""

from typing import Any

import torch

from .. import tree
from .._core.tensor_rule import GradientTransformation
from ..typing import Params
from ._assert import apart, describe, distinct, require, same_form
from ._trial import gradients

__tracebackhide__ = True  # pytest shows the caller's line


def is_pure(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`init` and `update` change nothing, and no memory appears in two roles."""
    state = tx.init(params)
    apart(tx, "the state that `init` made", state, "the parameters", params)
    distinct(tx, "the state that `init` made", state)
    for t in range(3):
        grads = gradients(params, t, tx=tx, **extra)
        given = (grads, state, params)
        before = [(x.clone(), x._version) for x in tree.leaves(given)]
        updates, new = tx.update(grads, state, params, **extra)
        for x, (value, version) in zip(tree.leaves(given), before, strict=True):
            same = torch.equal(x, value) and x._version == version
            require(tx, same, "has an `update` that changes its arguments")
        apart(tx, "the new state", new, "the gradients", grads)
        apart(tx, "the new state", new, "the parameters", params)
        apart(tx, "the updates", updates, "the parameters", params)
        apart(tx, "the updates", updates, "the old state", state)
        apart(tx, "the updates", updates, "the new state", new)
        distinct(tx, "the new state", new)
        distinct(tx, "the updates", updates)
        state = new


def keeps_form(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Updates have the form of the gradients, and states the form of the first, in every dtype."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        ps = tree.cast(params, dtype)
        state = tx.init(ps)
        first = describe(state)
        for t in range(3):
            grads = gradients(ps, t, tx=tx, **extra)
            updates, state = tx.update(grads, state, ps, **extra)
            same_form(tx, f"updates in {dtype}", describe(updates), describe(ps))
            same_form(tx, f"the state in {dtype}", describe(state), first)
