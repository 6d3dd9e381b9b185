"""Large results of the pure form are asked for in huge pages, before they are written."""

import mmap
import pathlib
import re

import pytest
import torch

import funcopt as fo
from funcopt.engine import _huge_pages, _pure, _step

PAGE, MB = mmap.PAGESIZE, 2**20

LARGE = _huge_pages.LARGE // 4  # entries


@pytest.fixture
def asked(monkeypatch):
    """What the system is asked for: where it begins, and how many bytes it has."""
    found = []
    monkeypatch.setattr(_huge_pages, "_advise", lambda begin, size, _: found.append((begin, size)))
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 14, raising=False)
    return found


def covers(asked, x):
    """Whether a tensor is in it."""
    end = x.data_ptr() + x.nbytes
    return any(begin <= x.data_ptr() and end <= begin + size for begin, size in asked)


def test_neighbours_are_asked_for_together(asked):
    begin = 100 * MB + 64
    spans = [(begin + 3 * MB + 640, 2 * MB), (begin, 3 * MB), (begin + 50 * MB, 5 * MB)]
    _huge_pages.ask_for_huge_pages(spans)
    assert asked == [(100 * MB, 5 * MB + 704), (150 * MB, 5 * MB + 64)]
    assert all(begin % PAGE == 0 for begin, _ in asked)


def test_less_is_not_asked_for(asked):
    _huge_pages.ask_for_huge_pages([(MB, 3 * MB), (20 * MB, 3 * MB)])
    _huge_pages.in_huge_pages([torch.empty(LARGE - 1)])
    _huge_pages.in_huge_pages([torch.empty(LARGE, device="meta")])
    _huge_pages.in_huge_pages([])
    assert not asked


def test_without_huge_pages_there_is_nothing_to_ask(monkeypatch):
    monkeypatch.setattr(_huge_pages, "_advise", None)
    _huge_pages.in_huge_pages([torch.empty(LARGE)])
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert _huge_pages._found() is None


@pytest.mark.parametrize("how", ["bytecode", "interpreted"])
def test_all_large_results_of_an_update(asked, how, monkeypatch):
    """The first ones, and those that repeat them."""
    monkeypatch.setenv("FUNCOPT_KERNELS", how)
    monkeypatch.setattr(_pure, "_cache", _pure._Cache())
    tx, ps = fo.adamw(0.1), {"large": torch.ones(LARGE), "small": torch.ones(3)}
    state = tx.init(ps)
    for _ in range(6):
        asked.clear()
        with fo.pure_engine("fused"):
            updates, state = tx.update(ps, state, ps)
        large = updates["large"], *fo.tree.leaves(state.slots["large"])
        assert len(large) == 3
        assert all(covers(asked, x) for x in large)


def test_and_of_sums(asked, monkeypatch):
    monkeypatch.setenv("FUNCOPT_KERNELS", "bytecode")
    ps, us = [torch.ones(LARGE)], [torch.ones(LARGE)]
    for _ in range(3):
        asked.clear()
        (made,) = fo.apply_updates(ps, us)
    assert covers(asked, made)


def test_the_memory_has_the_advice():
    """By what the kernel of Linux says of it."""
    maps = pathlib.Path("/proc/self/smaps")
    if _huge_pages._advise is None or not maps.exists():
        pytest.skip("no huge pages, or no list of memory")
    x = _step.Results.fresh([torch.ones(16 * LARGE)], [torch.ones(16 * LARGE)], []).us[0]
    middle, flags = x.data_ptr() + x.nbytes // 2, None
    for part in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", maps.read_text()):
        begin, end = (int(at, 16) for at in part.split(" ", 1)[0].split("-"))
        if begin <= middle < end:
            flags = re.search(r"VmFlags: (.*)", part)
    assert flags is not None
    assert "hg" in flags[1].split()
