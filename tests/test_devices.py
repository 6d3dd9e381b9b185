"""On a device that is not there: what has to lie where, checked with tensors that only pretend."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

import funcopt as fo

from .cases import CASES

# A build without CUDA cannot even pretend `isfinite`.
PRETENDED = [case for case in CASES if "skip_if" not in str(case) and "not_finite" not in str(case)]
PRETENDED = [case for case in PRETENDED if "norm_outlier" not in str(case)]


def places(state):
    leaves = zip(fo.tree.names(state), fo.tree.leaves(state), strict=True)
    return [(name, x.device.type) for name, x in leaves]


@pytest.mark.parametrize("capturable", [False, True], ids=["clock on the CPU", "capturable"])
@pytest.mark.parametrize("case", PRETENDED, ids=str)
def test_nothing_meets_a_tensor_of_another_device(case, capturable):
    with FakeTensorMode():
        params = {
            "w": torch.randn(3, 2, device="cuda"),
            "layers": torch.randn((), device="cuda"),
            "gain": torch.randn(4, device="cuda"),
        }
        state = case.tx.init(params, capturable=capturable)
        for _ in range(2):
            updates, new = case.tx.update(params, state, params)
            assert all(u.device.type == "cuda" for u in fo.tree.leaves(updates))
            assert places(new) == places(state)
            state = new


def test_there_is_something_to_check():
    assert len(PRETENDED) > 40
