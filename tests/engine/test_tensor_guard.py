"""A guard on metadata sees everything but values, with or without the code of Dynamo."""

import pytest
import torch

from funcopt.engine import TensorGuard, _tensor_guard


class Other(torch.Tensor):
    pass


def matrix():
    return torch.ones(3, 2)


DIFFERENT = {
    "dtype": lambda: matrix().double(),
    "device": lambda: matrix().to("meta"),
    "shape": lambda: torch.ones(2, 2),
    "strides": lambda: torch.ones(2, 3).t(),
    "layout": lambda: matrix().to_sparse(),
    "type": lambda: matrix().as_subclass(Other),
    "a parameter": lambda: torch.nn.Parameter(matrix(), requires_grad=False),
    "what autograd follows": lambda: matrix().requires_grad_(),
    "a zero without memory": lambda: torch._efficientzerotensor((3, 2)),
    "a negative view": lambda: torch.ones(3, 2, dtype=torch.complex64).conj().imag,
    "nothing": lambda: None,
    "a number": lambda: 3.0,
}


@pytest.fixture(params=["Dynamo", "Python"], autouse=True)
def code(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.setattr(_tensor_guard, "dynamo_check", lambda tensors: None)


@pytest.mark.parametrize("beside", [(), (None,), (2.0,)], ids=["alone", "None", "a number"])
@pytest.mark.parametrize("made", DIFFERENT.values(), ids=DIFFERENT)
def test_another_tensor_of_the_same_metadata_passes_and_no_other(made, beside):
    guard = TensorGuard([matrix(), *beside])
    assert guard.holds([2 * matrix(), *beside])
    assert not guard.holds([made(), *beside])
    other = TensorGuard([made(), *beside])
    assert other.holds([made(), *beside])
    assert not other.holds([matrix(), *beside])


def test_what_is_missing_stays_where_it_is():
    guard = TensorGuard([matrix(), None, matrix()])
    assert guard.holds([matrix(), None, matrix()])
    for others in ([matrix(), matrix(), None], [matrix()] * 3, [matrix()] * 2, [None] * 3, []):
        assert not guard.holds(others)
    assert not guard.holds([matrix(), 3.0, matrix()])
