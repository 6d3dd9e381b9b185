"""Identity guards on many objects: by machine code as by Python."""

import sys

import pytest
import torch

import funcopt as fo
from funcopt.engine import _identity


@pytest.fixture(params=["machine code", "Python"], autouse=True)
def by(request, monkeypatch):
    if request.param == "machine code":
        monkeypatch.setenv("FUNCOPT_KERNELS", "native")
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        fo.optim.SGD([p], lr=0.1, engine="fused").step()  # which loads a library
        assert _identity.reads_addresses()
    monkeypatch.setattr(
        _identity, "MIN_COUNT", 0 if request.param == "machine code" else sys.maxsize
    )


def test_addresses_are_where_tensors_begin():
    tensors = [
        torch.ones(3),
        torch.nn.Parameter(torch.ones(2, 2)),
        torch.ones(5)[2:],
        torch.ones(0),
    ]
    assert list(_identity.addresses(tensors)) == [x.data_ptr() for x in tensors]
    assert list(_identity.addresses([])) == []


def test_lists_are_identical_if_their_objects_are():
    a, b, c = object(), object(), object()
    assert _identity.identical([a, b], [a, b])
    assert not _identity.identical([a, b], [b, a])
    assert not _identity.identical([a, b], [a, c])
    assert not _identity.identical([a, b], [a])
    assert not _identity.identical([a], [a, b])
    assert _identity.identical([], [])


def test_objects_that_are_equal_are_not_identical():
    assert not _identity.identical([[1]], [[1]])
    assert not _identity.dicts_hold([{"a": [1]}], [[1]])


def test_dicts_hold_all_values_in_order_and_no_others():
    a, b, c, d = object(), object(), object(), object()
    dicts = [{1: a, 2: b}, {}, {1: c}]
    assert _identity.dicts_hold(dicts, [a, b, c])
    assert not _identity.dicts_hold(dicts, [a, c, b])
    assert not _identity.dicts_hold(dicts, [a, b, d])
    assert not _identity.dicts_hold(dicts, [a, b])
    assert not _identity.dicts_hold(dicts, [a, b, c, d])
    assert not _identity.dicts_hold([{}], [a])
    assert _identity.dicts_hold([], [])


def test_an_entry_of_a_dict_may_be_removed():
    a, b, c = object(), object(), object()
    held = {1: a, 2: b, 3: c}
    del held[2]
    assert _identity.dicts_hold([held], [a, c])
    assert not _identity.dicts_hold([held], [a, b, c])
    held[2] = b
    assert _identity.dicts_hold([held], [a, c, b])


CHANGES = {
    "another slot": lambda opt, p: opt.state[p].update(exp_avg=torch.full((3,), 0.5)),
    "another dict": lambda opt, p: opt.state.update({p: dict(opt.state[p])}),
    "another clock": lambda opt, p: opt.state[p].update(step=torch.tensor(7.0)),
    "none": lambda opt, p: opt.state.pop(p),
    "all of it": lambda opt, p: opt.load_state_dict(opt.state_dict()),
}


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_optimizer_sees_that_its_state_is_another(change, engine):
    ps, qs = ([torch.nn.Parameter(torch.linspace(-1.0, 1.0, 3)) for _ in range(2)] for _ in "ab")
    mine = fo.optim.AdamW(ps, lr=0.1, engine=engine)
    theirs = torch.optim.AdamW(qs, lr=0.1)
    for params, opt in ((ps, mine), (qs, theirs)):
        for t in range(6):
            for p in params:
                p.grad = (p.detach() + t).sin()
            if t == 3:
                change(opt, params[1])
            opt.step()
    torch.testing.assert_close(ps, qs, rtol=0, atol=1e-6)
