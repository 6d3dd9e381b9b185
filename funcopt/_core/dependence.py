"""Whether a loss depends on its parameters: if not, `torch.func.grad` gives zeros, silently."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import DerivativeError

_functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]

REASONS = (
    "it detaches them, runs under `torch.no_grad`, or calls the module itself instead of "
    "`torch.func.functional_call(module, params, inputs)`"
)
"""What usually is the matter with a function of parameters that does not depend on them."""


def is_followed(value: Any, leaves: Sequence[Any]) -> bool:
    """Whether autograd, or the level of `torch.func` of `leaves`, follows `value`.

    Of a level of `torch.func` that means that it depends on one of them. While compiling, nothing
    is known, and it is said to.
    """
    if torch.compiler.is_compiling() or not leaves:
        return True
    level = max(map(_functorch.maybe_get_level, leaves))
    return bool(value.requires_grad) and _functorch.maybe_get_level(value) >= level


def depends(value: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Whether the graph of `value` leads to one of `leaves`, which must not be leaves for autograd.

    A module that is called itself has parameters of its own that autograd follows, so that the
    graph has to be looked at.
    """
    if not is_followed(value, leaves):
        return False
    if torch.compiler.is_compiling() or not leaves:
        return True
    sought = {x.grad_fn for x in leaves}
    waiting, seen = [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node in sought:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return False


def independent(who: str | None, what: str, params: str = "its parameters") -> DerivativeError:
    """The error for a function whose derivative is zero since nothing depends on anything."""
    return DerivativeError(
        f"`{who}`: {what} does not depend on {params}, so its gradient would be zero: {REASONS}."
    )
