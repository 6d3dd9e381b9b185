"""In place, under `vmap` and compiled, it does the same."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core.apply import apply_updates
from .._core.tensor_rule import GradientTransformation
from ..combinators import with_hyperparams
from ..engine import donated, interpret_in_chunks, pure_engine
from ..typing import Params
from ._assert import close, require
from ._facts import numeric_hyperparams, scaled
from ._trial import by_operations, gradients, train

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def works_in_place(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """By kernels, in place and out of place, on pieces of tensors at once, it does the same."""
    if not tx.is_per_tensor() or tx.takes_examples():
        return
    ps = tree.cast(params, torch.float64)
    mine = tree.map(torch.clone, ps)
    state, own = tx.init(ps), tx.init(mine)
    step = donated(tx, engine="fused")
    for t in range(3):
        grads = gradients(ps, t, tx=tx, **extra)
        with interpret_in_chunks(2), pure_engine("fused"):
            by_kernels = tx.update(grads, state, ps, **extra)
        updates, state = tx.update(grads, state, ps, **extra)
        ps = apply_updates(ps, updates)
        with interpret_in_chunks(2):
            mine, own = step(mine, grads, own, **extra)
        close(tx, "parameters stepped in place", mine, ps, 1e-12)
        close(tx, "states stepped in place", own, state, 1e-12)
        close(tx, "updates by kernels", by_kernels, (updates, state), 1e-12)


@by_operations
def vmaps(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Under `torch.func.vmap`, over parameters and hyperparameters, it does what a loop does."""
    values = {k: scaled(v, (1.0, 0.9, 0.8)) for k, v in numeric_hyperparams(tx).items()}
    ps = tree.map(lambda p: torch.stack([p, 0.5 * p, -p]).double(), params)

    def run(values: Mapping[str, Any], ps: Any) -> Any:
        return train(with_hyperparams(tx, values), ps, 2, **extra)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing batching rule is only a warning
        together = torch.func.vmap(run)(values, ps)
    for i in range(3):
        mine, p = tree.map(lambda x, i=i: x[i], values), tree.map(lambda x, i=i: x[i], ps)
        one = tree.map(lambda x, i=i: x[i], together)
        close(tx, "a run under vmap", one, run(tree.map(Tensor.item, mine), p), 1e-9)


@by_operations
def compiles_to_the_same(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """`torch.compile(fullgraph=True)` traces `update` once, whatever the step and the numbers."""
    if tx.extra_names() is None:
        return  # anyone's functions
    torch.compiler.reset()
    graphs = 0

    def count(module: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module.forward

    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), numeric_hyperparams(tx))

    def update(values: Any, *args: Any) -> Any:
        return with_hyperparams(tx, values).update(*args, **extra)

    compiled = torch.compile(update, backend=count, fullgraph=True)
    state = with_hyperparams(tx, values).init(params)
    for t in range(3):
        grads = gradients(params, t, tx=tx, **extra)
        changed = tree.map(lambda v, t=t: v * (1 - 0.1 * t), values)
        updates, new = compiled(changed, grads, state, params)
        expected, state = update(changed, grads, state, params)
        close(tx, "compiled updates", updates, expected, 1e-5)
        close(tx, "a compiled state", new, state, 1e-5)
    require(tx, graphs == 1, f"was compiled {graphs} times in 3 steps")
