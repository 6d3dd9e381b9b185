"""Many trees as one, and back."""

from collections import OrderedDict

import pytest
import torch

import funcopt as fo

from ..training import common


def test_there_and_back():
    tx = fo.skip_if(fo.adam())
    states = [tx.init(common.params(seed)) for seed in range(3)]
    assert all(map(common.close, fo.unstack(fo.stack(states)), states))
    assert fo.stack(states).step.shape == (3,)


def test_it_is_the_same_as_torch_has_for_modules():
    models = [torch.nn.Linear(2, 3) for _ in range(4)]
    params, _ = torch.func.stack_module_state(models)
    mine = fo.stack([fo.split_module(model).params for model in models])
    assert common.close(mine, {k: v.detach() for k, v in params.items()}, 0.0)


def test_what_is_not_there_stays_away():
    trees = [{"a": torch.ones(()), "b": None}, {"a": torch.zeros(()), "b": None}]
    stacked = fo.stack(trees)
    assert stacked["b"] is None
    assert fo.unstack(stacked) == trees


def test_the_stack_is_a_copy():
    x = torch.zeros(2)
    fo.stack([x, x]).add_(1)
    assert torch.equal(x, torch.zeros(2))


def test_what_cannot_be_stacked():
    a = {"w": [torch.zeros(2)]}
    with pytest.raises(fo.errors.StructureError, match="expected at least one tree"):
        fo.stack([])
    with pytest.raises(fo.errors.StructureError) as error:
        fo.stack([a, {"w": [torch.zeros(3)]}])
    assert str(error.value) == (
        "`stack`: the leaves at `w/0` must have one shape, dtype and device, got ((2,), "
        "torch.float32, 'cpu') and ((3,), torch.float32, 'cpu')."
    )
    with pytest.raises(fo.errors.StructureError, match=r"got .*float32.* and .*float64"):
        fo.stack([torch.zeros(2), torch.zeros(2, dtype=torch.float64)])
    with pytest.raises(fo.errors.StructureError, match=r"and NoneType"):
        fo.stack([a, {"w": [None]}])
    with pytest.raises(fo.errors.StructureError, match="two trees that belong together"):
        fo.stack([a, OrderedDict(v=[torch.zeros(2)])])


def test_what_cannot_be_unstacked():
    with pytest.raises(fo.errors.StructureError, match="got no leaves"):
        fo.unstack({})
    with pytest.raises(fo.errors.StructureError, match=r"got \{'a': 2, 'b': 3\}"):
        fo.unstack({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(fo.errors.StructureError, match=r"got \{'': None\}"):
        fo.unstack(torch.zeros(()))
