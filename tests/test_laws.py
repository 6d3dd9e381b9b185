"""What holds for every transformation; the laws themselves are in `funcopt.testing`."""

import dataclasses

import pytest
import torch

import funcopt as fo
from funcopt import testing

from .cases import CASES, IN_FEWER_BITS, PARAMS

ids = {"argvalues": [*CASES, *IN_FEWER_BITS], "ids": str}
SMALL = {"w": PARAMS["a bare matrix"], "s": [PARAMS["a bare 0-d tensor"]]}


@pytest.mark.in_part(2)
@pytest.mark.parametrize("case", **ids)
@pytest.mark.parametrize("kind", PARAMS)
@pytest.mark.parametrize("law", testing.LAWS, ids=lambda law: law.__name__)
def test_it_keeps_the_law(law, kind, case):
    law(case.tx, PARAMS[kind], **case.extra)


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
@pytest.mark.parametrize("law", testing.LAWS_OF_DERIVATIVES, ids=lambda law: law.__name__)
def test_it_keeps_the_law_of_derivatives(law, case):
    law(case.tx, SMALL, **case.extra)


@pytest.mark.in_part(4)
@pytest.mark.parametrize("case", **ids)
def test_it_compiles_to_the_same(case):
    testing.compiles_to_the_same(case.tx, PARAMS["a nested tree"], **case.extra)


@pytest.mark.parametrize("case", **ids)
def test_a_tree_without_leaves_is_a_tree(case):
    for params in ({}, [], (), {"a": {}, "b": []}):
        updates, state = case.tx.update(params, case.tx.init(params), params, **case.extra)
        assert updates == params
        case.tx.update(params, state, params, **case.extra)


@pytest.mark.parametrize("case", **ids)
def test_the_public_check_runs_them_all(case):
    if case.tx.extra_names() is not None:
        testing.check_transformation(
            case.tx, SMALL, differentiable=case.differentiable, compiled=False, **case.extra
        )


def test_the_table_of_cases_is_complete():
    public = [value for value in vars(fo).values() if isinstance(value, type)]
    wanted = {c for c in public if issubclass(c, fo.GradientTransformation)}
    wanted -= {fo.GradientTransformation, fo.TensorRule}
    found = {type(node) for case in CASES for _, node in fo.combinators.walk(case.tx)}
    assert wanted <= found


def test_every_option_of_every_transformation_is_in_the_table():
    """A flag that no case sets is a branch that no law has seen."""
    nodes = [node for case in CASES for _, node in fo.combinators.walk(case.tx)]
    for node in nodes:
        for name in (field.name for field in dataclasses.fields(node) if field.type is bool):
            of_class = [other for other in nodes if type(other) is type(node)]
            assert {getattr(other, name) for other in of_class} == {True, False}, (node, name)


def test_gradients_of_mixed_precision_come_back_as_they_were():
    tx = fo.scale_by_adam()
    params = torch.zeros(3)
    grads = torch.ones(3, dtype=torch.bfloat16)
    updates, state = tx.update(grads, tx.init(params), params)
    assert updates.dtype == torch.bfloat16
    assert state.slots.exp_avg.dtype == torch.float32
