"""What the gradient of a parameter is, and what else gradients may mean."""

import torch
from torch import Tensor

from .._core.tensor_rule import GradientTransformation
from ..errors import SparseGradientError, StructureError
from ._callers import called_by
from ._options import Options


def gradient(who: str, tx: GradientTransformation, p: Tensor) -> Tensor | None:
    """The gradient of a parameter; the gradients of all examples, if the chain takes those.

    Raises:
        StructureError: If there is a gradient, and the chain takes those of examples.
    """
    if not tx.takes_examples():
        return materialized(p.grad)
    examples = getattr(p, "grad_sample", None)
    if isinstance(examples, Tensor) or (examples is None and p.grad is None):
        return materialized(examples)
    raise StructureError(
        f"`{who}`: {tx!r} takes one gradient for each example, in "
        "`p.grad_sample`, a tensor of shape (examples, *p.shape); there is "
        f"{'only `p.grad`' if examples is None else type(examples).__name__}. "
        "`torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))` computes them."
    )


def materialized(g: Tensor | None) -> Tensor | None:
    """A gradient whose entries stand in memory: not negated or conjugated when it is read."""
    lazy = g is not None and (g.is_neg() or g.is_conj())
    return g.resolve_conj().resolve_neg() if lazy else g  # type: ignore[union-attr]


def drop_examples(param_groups: list[Options]) -> None:
    """Drops the gradients of single examples."""
    for group in param_groups:
        for p in group["params"]:
            p.grad_sample = None


def check_dense(who: str, parameter: str, g: Tensor) -> None:
    """Refuses a sparse gradient."""
    if g.layout is not torch.strided:
        raise SparseGradientError(
            f"`{who}` does not support sparse gradients, and that of parameter `{parameter}` is: "
            "build the embedding with `sparse=False`."
        )


PROBES = (
    ("torch.distributed.checkpoint.state_dict", None),
    ("torch.distributed.optim.named_optimizer", "init_state"),
)
"""Where torch steps an optimizer to have its state made: the module, and the function."""


def is_probe() -> bool:
    """Whether a first step is one by which torch asks for the state, and nothing is to be changed.

    Who asks is the same on all ranks. A learning rate of 0 and gradients of 0 are not: the first
    step of a warm-up has them where a rank has no part of what has a gradient.
    """
    return any(called_by(module, function) for module, function in PROBES)
