"""All laws, and the check that runs them."""

from collections.abc import Callable, Sequence
from typing import Any

from .._core.kinds import check_tree, expect_transformation
from .._core.tensor_rule import GradientTransformation
from ..typing import Params
from ._arguments import (
    asks_for_params,
    asks_for_the_loss,
    reads_hyperparams_from_s,
    refuses_unknown_extra,
)
from ._derivatives import differentiates, has_finite_derivatives_at_zero
from ._execution import compiles_to_the_same, vmaps, works_in_place
from ._purity import is_pure, keeps_metadata
from ._tensors import (
    is_elementwise_if_it_says_so,
    leaves_out_what_has_no_gradient,
    takes_complex_as_two_reals,
    treats_tensors_apart,
)
from ._values import is_a_value, saves_and_loads

__tracebackhide__ = True  # pytest shows the caller's line


LAWS: Sequence[Callable[..., None]] = (
    is_a_value,
    is_pure,
    keeps_metadata,
    leaves_out_what_has_no_gradient,
    treats_tensors_apart,
    reads_hyperparams_from_s,
    asks_for_params,
    asks_for_the_loss,
    refuses_unknown_extra,
    saves_and_loads,
    takes_complex_as_two_reals,
    is_elementwise_if_it_says_so,
    works_in_place,
    vmaps,
)
LAWS_OF_DERIVATIVES: Sequence[Callable[..., None]] = (
    differentiates,
    has_finite_derivatives_at_zero,
)


def check_transformation(
    tx: GradientTransformation,
    params: Params,
    *,
    differentiable: bool = True,
    compiled: bool = True,
    **extra: Any,
) -> None:
    """Checks a transformation against the laws that all transformations obey, on `params`.

    Args:
        tx: The transformation to check.
        params: A tree of floating-point tensors, small: derivatives are taken by every entry.
        differentiable: Whether derivatives are checked; not where values are rounded on purpose.
        compiled: Whether `torch.compile` is checked; it takes a second.
        **extra: Extra arguments that `update` needs; gradients are those of `value_fn`, if given.

    Raises:
        AssertionError: Naming the law that does not hold, also where `tx` itself raises an error.
        HyperparameterError: If `tx` is no transformation.
        LeafError: If `params` is no tree of tensors.
    """
    expect_transformation("check_transformation", tx, "check_transformation(tx, params)")
    check_tree("check_transformation", "params", params)
    for law in LAWS:
        law(tx, params, **extra)
    if differentiable:
        for law in LAWS_OF_DERIVATIVES:
            law(tx, params, **extra)
    if compiled:
        compiles_to_the_same(tx, params, **extra)
