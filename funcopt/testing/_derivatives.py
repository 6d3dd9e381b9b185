"""It can be differentiated."""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from .._core.tensor_rule import GradientTransformation
from ..combinators import with_hyperparams
from ..typing import Params
from ._assert import require
from ._facts import numeric_hyperparams
from ._trial import by_operations, gradients, train

__tracebackhide__ = True  # pytest shows the caller's line


@by_operations
def differentiates(tx: GradientTransformation, params: Params, **extra: Any) -> None:
    """Derivatives by gradients, parameters and hyperparameters agree with finite differences."""
    numbers = {k: v for k, v in numeric_hyperparams(tx).items() if v != 0}
    # Where a root is divided by, a small epsilon makes the slope too steep for differences.
    raised = {k: max(v, 1e-3) for k, v in numbers.items() if "eps" in k}
    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), {**numbers, **raised})
    inputs = (tree.map(lambda p: p.double(), params), values)
    _, spec = tree.flatten(inputs)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        ps, values = spec.unflatten(leaves)
        return tuple(tree.leaves(train(with_hyperparams(tx, values), ps, 2, **extra)))

    leaves = [x.requires_grad_() for x in tree.leaves(tree.map(torch.clone, inputs))]
    if not any(u.requires_grad for u in run(*leaves)):
        return  # constant almost everywhere, as the sign is
    if not torch.autograd.gradcheck(run, leaves, raise_exception=False, atol=1e-6, rtol=1e-4):
        torch.autograd.gradcheck(run, leaves, atol=1e-6, rtol=1e-4)  # says where


@by_operations
def has_finite_derivatives_at_zero(
    tx: GradientTransformation, params: Params, **extra: Any
) -> None:
    """At zero gradients, all derivatives are finite."""
    values = tree.map(lambda v: torch.tensor(v, dtype=torch.float64), numeric_hyperparams(tx))
    ps = tree.map(lambda p: p.double(), params)
    zeros = tree.zeros_like(gradients(ps, 0, tx=tx, **extra))
    inputs = tree.map(lambda x: x.clone().requires_grad_(), (values, ps, zeros))
    _values, _ps, grads = inputs
    live = with_hyperparams(tx, _values)
    state, total = live.init(_ps), torch.zeros((), dtype=torch.float64)
    for _ in range(2):
        updates, state = live.update(grads, state, _ps, **extra)
        total = total + sum(u.sum() for u in tree.leaves(updates))
    if not total.requires_grad:
        return
    leaves = tree.leaves(inputs)
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    for name, slope in zip(tree.names(inputs), found, strict=True):
        finite = slope is None or bool(slope.isfinite().all())
        require(tx, finite, f"has a derivative by {name} that is not finite at zero gradients")
