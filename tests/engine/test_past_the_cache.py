"""What is only written, of more than caches hold, goes past them: no bit of a result changes."""

import pytest
import torch

import funcopt as fo
from funcopt.engine import _bytecode, _caches, _kernels, _pure, _threads
from funcopt.engine._translation import translate

from ..cases import Case
from .common import lowered_graphs, watched
from .test_every_chain import CASES

SHAPES = {"a": (700,), "b": (33, 5), "c": (1,), "d": (), "e": (0,)}

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.fixture(autouse=True)
def by_bytecode(monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")


@pytest.fixture
def streamed(monkeypatch):
    """How many columns of a program are streamed."""
    found, known = [], _bytecode.Program.through_memory

    def noted(self, columns):
        found.extend(columns)
        return known(self, columns)

    monkeypatch.setattr(_bytecode.Program, "through_memory", noted)
    return found


def params(dtype, shapes):
    draw = torch.Generator().manual_seed(0)
    return {k: torch.randn(shape, generator=draw).to(dtype) for k, shape in shapes.items()}


def updated(case, monkeypatch, large, dtype=torch.float32, shapes=SHAPES):
    """Updates, states and parameters of a few steps; passes are large, or none is."""
    monkeypatch.setattr(_pure, "_cache", _pure._Cache())
    monkeypatch.setattr(_caches, "hold", lambda *_: not large)
    found, ps = [], params(dtype, shapes)
    state = case.tx.init(ps)
    with watched() as by_kernels:
        for t in range(3):
            gs = fo.tree.map(lambda p, t=t: (p + t).sin(), ps)
            updates, state = case.tx.update(gs, state, ps, **case.extra)
            ps = fo.apply_updates(ps, updates)
            found.append((updates, state, ps))
    return fo.tree.leaves(found), by_kernels


def same(x, y):
    return x.dtype is y.dtype and torch.equal(x.nan_to_num(), y.nan_to_num())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_bit_of_an_update_changes(case, monkeypatch):
    one, _ = updated(case, monkeypatch, True)
    other, _ = updated(case, monkeypatch, False)
    assert len(one) == len(other)
    assert all(map(same, one, other))


STREAMED = {
    "sgd": (fo.sgd(0.1, momentum=0.9), 2),
    "adamw": (fo.adamw(0.1), 3),
    "quantized": (fo.quantized(fo.adamw(0.1), min_size=0), 5),
    "quantized, two in a byte": (fo.quantized(fo.adamw(0.1), format="4bit", min_size=0), 5),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(x, d) for x in STREAMED for d in DTYPES if "quantized" not in x or d != torch.float64],
    ids=str,
)
def test_results_out_of_place_are_streamed(name, dtype, streamed, monkeypatch):
    """On two threads, too, of which each works on pieces of a tensor."""
    tx, count = STREAMED[name]
    shapes = {**SHAPES, "large": (100_001,)}
    monkeypatch.setattr(_kernels, "_cache", {})
    monkeypatch.setattr(_threads, "threads_for", lambda *_: 2)
    found = []
    for large in (True, False):
        made, by_kernels = updated(Case(tx), monkeypatch, large, dtype, shapes)
        assert all(by_kernels)
        found.append(made)
    assert len(streamed) >= count
    assert all(map(same, *found))


def test_what_is_read_is_not(monkeypatch):
    """In place all is, but what is copied into."""
    for tx in (fo.sgd(0.1, momentum=0.9), fo.adamw(0.1), fo.lion(0.1)):
        for lowered in lowered_graphs(monkeypatch, tx):
            assert not translate(lowered).only_written()


@pytest.mark.parametrize("offset", range(17))
def test_memory_may_begin_anywhere(offset, monkeypatch):
    monkeypatch.setattr(_caches, "hold", lambda *_: False)
    monkeypatch.setattr(_pure, "_cache", _pure._Cache())
    whole = torch.full((3000,), -1.0)
    real = torch.empty_like

    def shifted(x, **given):
        return whole[offset : offset + x.numel()] if x.numel() == 2500 else real(x, **given)

    p = torch.randn(2500)
    tx = fo.scale(-0.5)
    state = tx.init([p])
    monkeypatch.setattr(torch, "empty_like", shifted)
    with watched() as by_kernels:
        (update,), _ = tx.update([p], state, [p])
    assert by_kernels == [True]
    assert update.data_ptr() == whole[offset:].data_ptr()
    assert update.equal(-0.5 * p)
    assert whole[:offset].eq(-1.0).all()
    assert whole[offset + 2500 :].eq(-1.0).all()
