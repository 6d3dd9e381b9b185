"""Some gradients, and a short training with them, for the laws."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from .. import tree
from .._core.loss import value_and_grad
from .._core.stack import stack
from .._core.tensor_rule import GradientTransformation
from ..engine import pure_engine
from ..typing import Params

__tracebackhide__ = True  # pytest shows the caller's line


def by_operations(law: Callable[..., None]) -> Callable[..., None]:
    """A law of what authors have written: kernels that are made of it may do something else."""

    @functools.wraps(law)
    def checked(*args: Any, **kwargs: Any) -> None:
        with pure_engine("eager"):
            law(*args, **kwargs)

    return checked


def gradients(
    params: Params,
    t: int,
    offset: int = 0,
    tx: GradientTransformation | None = None,
    **extra: Any,
) -> Params:
    """Some gradients, different in every step, tensor and entry; of a loss, if there is one.

    Where `tx` takes examples, there are three of them.
    """
    if "value_fn" in extra:
        found: Params = value_and_grad(extra["value_fn"])(params)[1]
        return found
    if tx is not None and tx.takes_examples():
        each = [gradients(params, t, offset + i) for i in range(3)]
        return stack(each)
    leaves, spec = tree.flatten(params)
    grads = []
    for i, p in enumerate(leaves):
        angles = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
        grads.append(torch.sin(1.0 + angles + 1.7 * t + 0.3 * (i + offset)).to(p.device, p.dtype))
    return spec.unflatten(grads)


def train(
    tx: GradientTransformation, params: Params, steps: int, offset: int = 0, **extra: Any
) -> Params:
    """The last updates, for gradients that depend on the parameters too."""
    state = tx.init(params)
    updates = params
    for t in range(steps):
        grads = gradients(params, t, offset, tx, **extra)
        if "value_fn" not in extra:
            grads = tree.map(lambda g, p: g + 0.1 * p, grads, params)
        updates, state = tx.update(grads, state, params, **extra)
        params = tree.map(lambda p, u: p + 0.01 * u.to(p.dtype), params, updates)
    return updates
