"""Functions that are given several trees say which function it was, where these differ."""

import pytest
import torch

import funcopt as fo
from funcopt.errors import StructureError

A, B = {"a": torch.ones(2)}, {"b": torch.ones(2)}

CALLS = {
    "apply_updates": lambda: fo.apply_updates(A, B),
    "stack": lambda: fo.stack([A, B]),
    "pcgrad": lambda: fo.pcgrad([A, B]),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_function_is_named(name):
    with pytest.raises(StructureError, match=f"^`{name}`: .*the keys .'b'."):
        CALLS[name]()
