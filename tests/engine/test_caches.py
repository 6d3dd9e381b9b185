"""Whether caches hold a pass is measured on the computer, once, and kept."""

import pytest
import torch

from funcopt.engine import _caches, _kernels, _measured

MB = 2**20


@pytest.fixture(autouse=True)
def computer(monkeypatch, tmp_path):
    """One on which nothing has been measured."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_measured, "_found", {})
    monkeypatch.setattr(_measured, "seconds", lambda work, *given: work(*given))
    return tmp_path / "funcopt"


def caches_of(size):
    """The time of a pass where caches have so many bytes."""

    def clock(used, way):
        held = used <= size
        return used * (1.0 if held == (way == _caches.FROM_CACHES) else 1.1)

    return clock


def held(size, work):
    return [_caches.hold(n * MB, work) for n in (1, 2, 4, 16, 33, 64, 65, 1000)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [True, True, False, False, False, False, False, False]),
        (8, [True, True, True, False, False, False, False, False]),
        (32, [True, True, True, True, False, False, False, False]),
        (500, [True, True, True, True, True, True, False, False]),
    ],
)
def test_what_fits_is_held(size, expected):
    assert held(size, lambda: caches_of(size * MB)) == expected


def test_it_is_measured_once_and_kept(computer):
    made = []

    def work():
        made.append(1)
        return caches_of(8 * MB)

    assert held(8, work) == held(8, work)
    _measured._found.clear()  # as in another process
    assert held(8, work) == held(8, lambda: caches_of(8 * MB))
    assert len(made) == 1
    assert len(list(computer.glob("*.txt"))) == 1


def test_small_and_large_passes_need_no_measurement():
    assert [_caches.hold(n, lambda: None) for n in (0, 2 * MB, 64 * MB + 1)] == [True, True, False]


def test_the_pass_that_is_measured_is_one(monkeypatch):
    monkeypatch.undo()
    work = _kernels._probe_of_caches()
    for way in (_caches.FROM_CACHES, _caches.THROUGH_MEMORY):
        assert _measured.seconds(work, _caches.SIZES[0], way) > 0


def test_a_kernel_asks(monkeypatch):
    asked = []
    monkeypatch.setattr(_caches, "hold", lambda size, work: asked.append(size) or True)
    probe = _kernels._Probe()
    block = _kernels.Block([0], [[torch.zeros(100)] for _ in range(3)], _kernels.Roles(1, False))
    probe.kernel(block, block.tasks(((0,),), _kernels.CHUNK), (0, 1, 2), [[0.9]])
    assert asked == [1200]
