"""Checks that a transformation obeys the laws of gradient transformations.

    check_transformation(signum(), {"w": torch.randn(3, 2), "b": torch.randn(())})

Each law is a function of its own, so a failure says which one was broken.
"""

from .._hints.names import explain_missing as _explain_missing
from ._arguments import asks_for_params as asks_for_params
from ._arguments import asks_for_the_loss as asks_for_the_loss
from ._arguments import reads_hyperparams_from_s as reads_hyperparams_from_s
from ._arguments import refuses_unknown_extra as refuses_unknown_extra
from ._assert import describe as describe
from ._derivatives import differentiates as differentiates
from ._derivatives import has_finite_derivatives_at_zero as has_finite_derivatives_at_zero
from ._execution import compiles_to_the_same as compiles_to_the_same
from ._execution import vmaps as vmaps
from ._execution import works_in_place as works_in_place
from ._laws import LAWS as LAWS
from ._laws import LAWS_OF_DERIVATIVES as LAWS_OF_DERIVATIVES
from ._laws import check_transformation as check_transformation
from ._purity import is_pure as is_pure
from ._purity import keeps_metadata as keeps_metadata
from ._tensors import is_elementwise_if_it_says_so as is_elementwise_if_it_says_so
from ._tensors import leaves_out_what_has_no_gradient as leaves_out_what_has_no_gradient
from ._tensors import takes_complex_as_two_reals as takes_complex_as_two_reals
from ._tensors import treats_tensors_apart as treats_tensors_apart
from ._trial import gradients as gradients
from ._trial import train as train
from ._values import is_a_value as is_a_value
from ._values import saves_and_loads as saves_and_loads

__all__ = [
    "LAWS",
    "LAWS_OF_DERIVATIVES",
    "asks_for_params",
    "asks_for_the_loss",
    "check_transformation",
    "compiles_to_the_same",
    "describe",
    "differentiates",
    "gradients",
    "has_finite_derivatives_at_zero",
    "is_a_value",
    "is_elementwise_if_it_says_so",
    "is_pure",
    "keeps_metadata",
    "leaves_out_what_has_no_gradient",
    "reads_hyperparams_from_s",
    "refuses_unknown_extra",
    "saves_and_loads",
    "takes_complex_as_two_reals",
    "train",
    "treats_tensors_apart",
    "vmaps",
    "works_in_place",
]

_explain_missing(__name__)
